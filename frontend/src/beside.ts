// What is beside every demo: how it is made, and how a phone joins.

import { codePanel } from "./code";
import { phonePanel } from "./phone";

/** The page has parts/demo.html. */
export function beside(): void {
  codePanel();
  void phonePanel();
}

// The `EventSource` of npm gets in at last, however often it is turned away for the moment: node comesback.mjs URL
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
source.addEventListener("subscribed", () => process.exit(0));
source.onerror = () => {
  if (source.readyState === EventSource.CLOSED) process.exit(1);
};

// What a view of the page is.

export interface View {
  readonly title: string;
  readonly root: HTMLElement;
  /** There is a new sample. */
  update?(): void;
  /** Another view takes its place. */
  close?(): void;
}

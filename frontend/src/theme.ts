// Light, dark, or as the system says; the choice stays in this browser.
const KEY = "freshet.theme";

export function themeSwitch(select: HTMLSelectElement): void {
  const apply = (): void => {
    if (select.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = select.value;
  };
  select.value = localStorage.getItem(KEY) ?? "auto";
  apply();
  select.addEventListener("change", () => {
    localStorage.setItem(KEY, select.value);
    apply();
  });
}

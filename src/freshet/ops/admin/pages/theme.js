// Before the first paint, so that a page in the theme that was chosen does not flash in the other one.
const theme = localStorage.getItem("freshet.theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;

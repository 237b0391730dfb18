// Light or dark, before the first paint: a plain script, because modules run only after it.
// "auto" (nothing stored) leaves it to the system.
(() => {
  try {
    const theme = localStorage.getItem('theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden; then the system decides.
  }
})();

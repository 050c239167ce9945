// The reader's language: the browser's, or the one that was chosen here. One table per language.

const KEY = "oxmon.language";
export const LANGUAGES = { en: "English", "zh-CN": "简体中文" };

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** The language in force: a key of `LANGUAGES`. */
export const language = (() => {
  const known = Object.keys(LANGUAGES);
  const kept = chosen();
  if (known.includes(kept)) return kept;
  for (const wanted of navigator.languages ?? []) {
    const found = known.find((name) => name.slice(0, 2) === wanted.slice(0, 2).toLowerCase());
    if (found) return found;
  }
  return "en";
})();

const table = language === "en" ? await import("./lang-en.js") : await import("./lang-zh.js");
const strings = table.default;
document.documentElement.lang = language;

/** The text of a key, each `{name}` in it replaced. A key without a text is shown as it is. */
export function t(key, values) {
  const text = strings[key] ?? key;
  if (!values) return text;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** Whether there is a text for a key that is made of data. */
export const has = (key) => Object.hasOwn(strings, key);

/** The text of a word of the API, such as a status; the word itself where it is a new one. */
export const word = (group, name) => (has(`${group}.${name}`) ? t(`${group}.${name}`) : name);

/** Keeps a language for this browser and starts the page again in it. */
export function choose(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // A browser that keeps nothing has its own language.
  }
  location.reload();
}

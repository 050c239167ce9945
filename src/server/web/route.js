// The address: `#/page/id?name=value`. Range and filters are in it, so that it can be shared.

/** The page, what it is about, and its parameters. */
export function route(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?");
  const [, name = "", id = ""] = path.split("/");
  try {
    return { name, id: decodeURIComponent(id), query: new URLSearchParams(query) };
  } catch {
    return { name: "", id: "", query: new URLSearchParams() };
  }
}

/** The address of a page; parameters without a value are left out. */
export function href(name, id = "", query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const search = new URLSearchParams(kept).toString();
  const path = `#/${name}${id === "" ? "" : `/${encodeURIComponent(id)}`}`;
  return search ? `${path}?${search}` : path;
}

/** Changes parameters of the page that is shown. `push`: Back returns to what was before. */
export function setQuery(changes, push = false) {
  const { name, id, query } = route();
  const hash = href(name, id, { ...Object.fromEntries(query), ...changes });
  if (hash === location.hash) return;
  if (push) history.pushState(null, "", hash);
  else history.replaceState(null, "", hash);
}

export const agentHref = (id, query) => href("agents", id, query);

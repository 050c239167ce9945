// The pages for login and password.

import { Failure, call, keep, session } from "./api.js";
import { h, setText } from "./dom.js";

const PASSWORD_MIN = 8;

function field(label, attributes) {
  const input = h("input", { required: true, ...attributes });
  return { input, node: h("label", {}, h("span", {}, label), input) };
}

/** A form with its own line for what went wrong. `send` does the work. */
function form(title, intro, fields, button, send) {
  const wrong = h("p", { class: "notice bad", role: "alert", hidden: true });
  const submit = h("button", { type: "submit", class: "main" }, button);
  const node = h(
    "form",
    { class: "card form" },
    h("h1", { tabindex: "-1" }, title),
    h("p", { role: "status" }, intro),
    ...fields.map((each) => each.node),
    wrong,
    submit,
  );
  node.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    wrong.hidden = true;
    try {
      await send();
    } catch (error) {
      setText(wrong, error.message);
      wrong.hidden = false;
      fields.at(-1).input.focus();
    }
    submit.disabled = false;
  });
  return node;
}

/** Shown whenever nobody is logged in; after it, the page that was asked for. */
export function loginPage(shell, message) {
  const name = field("User name", { name: "username", autocomplete: "username", type: "text" });
  name.input.autocapitalize = "none";
  const word = field("Password", {
    name: "password",
    autocomplete: "current-password",
    type: "password",
  });
  const intro = message ?? "Log in to see your agents.";
  const node = form("Log in", intro, [name, word], "Log in", async () => {
    const body = { username: name.input.value, password: word.input.value };
    const { data } = await call("/v1/auth/login", { method: "POST", body });
    keep({ token: data.token, role: data.role, must_change: data.must_change });
    shell.go(data.must_change ? "#/password" : location.hash);
  });
  return { title: "Log in", node, focus: message ? undefined : name.input };
}

export function passwordPage(shell) {
  const secret = (label, autocomplete) =>
    field(label, { type: "password", autocomplete, name: autocomplete });
  const old = secret("Current password", "current-password");
  const fresh = secret("New password", "new-password");
  const again = secret("New password, again", "new-password");
  const first = session()?.must_change ? "The default password must be changed. " : "";
  const intro = `${first}Every login of yours is over then, and you log in anew.`;
  const fields = [old, fresh, again];
  const node = form("Change password", intro, fields, "Change it", async () => {
    if (fresh.input.value.length < PASSWORD_MIN) {
      throw new Failure(`The new password needs ${PASSWORD_MIN} characters or more.`);
    }
    if (fresh.input.value !== again.input.value) {
      throw new Failure("The two new passwords differ. Type the same one twice.");
    }
    const body = { current_password: old.input.value, new_password: fresh.input.value };
    try {
      await call("/v1/auth/password", { method: "POST", body });
    } catch (error) {
      if (error.over) shell.fail(error);
      throw error;
    }
    keep(null);
    history.replaceState(null, "", "#/");
    shell.fail(new Failure("Your password is changed. Log in with the new one.", true));
  });
  return { title: "Change password", node };
}

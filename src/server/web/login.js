// The pages for login and password.

import { Failure, forget, loadSession, logIn, post, session } from "./api.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { Form } from "./kit.js";

const PASSWORD_MIN = 8;

function card(title, intro, form) {
  return h(
    "div",
    { class: "card narrow" },
    h("h1", { tabindex: "-1" }, title),
    h("p", { role: "status" }, intro),
    form.node,
  );
}

/** Shown whenever nobody is logged in; after it, the page that was asked for. */
export function loginPage(shell, message) {
  const attributes = { autocomplete: "username", autocapitalize: "none", spellcheck: "false" };
  const secret = { autocomplete: "current-password" };
  const form = new Form({
    fields: [
      { name: "username", label: t("login.name"), required: true, attributes },
      {
        name: "password",
        label: t("login.password"),
        kind: "password",
        required: true,
        attributes: secret,
      },
    ],
    submit: t("login.do"),
    send: async ({ username, password }) => {
      await logIn(username, password);
      shell.go(session().must_change ? "#/password" : location.hash);
    },
  });
  const node = card(t("login.title"), message ?? t("login.intro"), form);
  return { title: t("login.title"), node, focus: message ? undefined : form.fields[0].input };
}

async function change(shell, values) {
  if (values.new_password.length < PASSWORD_MIN) {
    throw new Failure(t("password.short", { least: PASSWORD_MIN }));
  }
  if (values.new_password !== values.again) throw new Failure(t("password.differ"));
  const { current_password, new_password, end_tokens } = values;
  try {
    await post("/v1/auth/password", { current_password, new_password, end_tokens });
  } catch (error) {
    // Of a wrong password and of a session that has expired the server says the same.
    if (error.over && (await loadSession())) throw new Failure(t("password.wrong"));
    throw error;
  }
  forget();
  history.replaceState(null, "", "#/");
  shell.show(t("password.done"));
}

export function passwordPage(shell) {
  const secret = (name, label, autocomplete) => ({
    name,
    label,
    kind: "password",
    required: true,
    attributes: { autocomplete },
  });
  const form = new Form({
    shell,
    fields: [
      secret("current_password", t("password.current"), "current-password"),
      secret("new_password", t("password.new"), "new-password"),
      secret("again", t("password.again"), "new-password"),
      { name: "end_tokens", label: t("password.tokens"), kind: "flag" },
    ],
    submit: t("password.do"),
    send: (values) => change(shell, values),
  });
  const first = session().must_change ? `${t("password.first")} ` : "";
  const title = t("password.title");
  return { title, node: card(title, `${first}${t("password.intro")}`, form) };
}

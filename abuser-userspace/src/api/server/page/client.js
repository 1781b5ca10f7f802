// Requests to the daemon: each brings the token, and none goes anywhere else.

/** The daemon does not know the token. */
class Unauthorized extends Error {}

/** Nobody answers. */
class Unreachable extends Error {}

/** The daemon said no; the message is its own. */
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** How long an answer may take, in milliseconds: longer than the daemon allows itself. */
const PATIENCE = 30_000;

// This tab's own: neither other tabs nor what is started after this one is closed have it.
const TOKEN_KEY = "abuser-token";

const client = {
  token: sessionStorage.getItem(TOKEN_KEY),

  keep(token) {
    this.token = token;
    sessionStorage.setItem(TOKEN_KEY, token);
  },

  forget() {
    this.token = null;
    sessionStorage.removeItem(TOKEN_KEY);
  },

  get(path) {
    return this.ask("GET", path);
  },

  /** The answer, parsed. */
  async ask(method, path, body) {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), PATIENCE);
    try {
      const response = await this.send(method, path, body, stop.signal);
      return await response.json();
    } catch (error) {
      throw known(error);
    } finally {
      clearTimeout(timer);
    }
  },

  /** Calls `take` with each line of an answer that goes on, parsed, until it ends. */
  async follow(path, signal, take) {
    try {
      const response = await this.send("GET", path, undefined, signal);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) {
          return;
        }
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        lines.filter((line) => line !== "").forEach((line) => take(JSON.parse(line)));
      }
    } catch (error) {
      throw known(error);
    }
  },

  async send(method, path, body, signal) {
    // Anything else does not go through a header, and is no token.
    if (!/^[\x21-\x7e]+$/.test(this.token ?? "")) {
      throw new Unauthorized();
    }
    const headers = { authorization: `Bearer ${this.token}` };
    if (body !== undefined) {
      headers["content-type"] = "application/json";
    }
    // Relative to this page, so that a proxy may have it in a folder.
    const response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      mode: "same-origin",
      redirect: "error",
      referrerPolicy: "no-referrer",
      signal,
    });
    if (response.status === 401) {
      throw new Unauthorized();
    }
    if (!response.ok) {
      const said = await response.json().catch(() => null);
      throw new Refused(response.status, said?.error ?? `the answer is a ${response.status}`);
    }
    return response;
  },
};

/** An error as one of those above: what a browser throws for a broken connection varies. */
function known(error) {
  const isKnown = error instanceof Unauthorized || error instanceof Refused;
  return isKnown ? error : new Unreachable(String(error), { cause: error });
}

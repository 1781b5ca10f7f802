// When what is asked, and what happens if nobody answers.

/** How long nobody answers until that is said, at first and at most, in milliseconds. */
const RETRY = { first: 500, most: 5000 };

/** A look takes at most this part of the daemon's and this machine's time. */
const SHARE = 10;

let status = null;
let detection = null;
let retry = RETRY.first;
let timer = 0;
let looking = false;
let signedIn = false;

/** What is looked at and how often, in milliseconds. One request is under way at a time. */
const looks = [
  {
    every: 1000,
    path: () => "v1/status",
    show: (answer, time) => {
      noticeRestart(answer);
      status = answer;
      showFacts(status);
      byId("observe").hidden = status.observe;
      showTraffic(status, time);
      showBanners(worries(status, detection));
    },
  },
  { every: 1000, path: () => "v1/top?limit=20", show: showTop },
  { every: 1000, path: () => bans.path(), show: showBans },
  { every: 2000, path: () => "v1/limits", show: showLimits },
  {
    every: 2000,
    path: () => "v1/detection",
    show: (answer, time) => {
      detection = answer;
      showDetection(detection, time);
    },
  },
].map((look) => ({ ...look, due: 0 }));

/** Another daemon counts from its own beginning. */
function noticeRestart(answer) {
  if (status === null || (status.pid === answer.pid && status.started === answer.started)) {
    return;
  }
  rates.reset();
  toast("The daemon was restarted.");
}

/** Looks at what is due, and again later. */
async function look() {
  clearTimeout(timer);
  if (looking || !signedIn || document.hidden) {
    return;
  }
  looking = true;
  let pause = 250;
  try {
    for (const part of looks) {
      const began = performance.now();
      if (part.due > began) {
        continue;
      }
      const path = part.path();
      const answer = await client.get(path);
      if (!signedIn) {
        return;
      }
      const now = performance.now();
      // Meanwhile somebody may have turned to another page.
      if (path === part.path()) {
        part.show(answer, now);
        part.due = began + Math.max(part.every, (now - began) * SHARE) - 20;
      }
    }
    live();
    const next = Math.min(...looks.map(({ due }) => due));
    pause = Math.min(1000, Math.max(50, next - performance.now()));
  } catch (error) {
    pause = troubled(error);
  } finally {
    looking = false;
  }
  timer = setTimeout(look, pause);
}

/** Looks at everything at once. */
function lookNow() {
  looks.forEach((part) => {
    part.due = 0;
  });
  look();
}

function live() {
  retry = RETRY.first;
  connection("live", "live");
  if (events.stop === null) {
    followEvents();
  }
}

/** Says what went wrong; how long to wait until it is tried again. */
function troubled(error) {
  if (error instanceof Unauthorized) {
    askForToken("The daemon does not know this token any more.");
    return RETRY.most;
  }
  events.end();
  const pause = retry;
  retry = Math.min(retry * 2, RETRY.most);
  if (error instanceof Refused) {
    connection("lost", `the daemon refuses: ${error.message}`);
  } else if (error instanceof Unreachable) {
    connection("lost", "connection lost, trying again");
  } else {
    // Most likely a daemon of another version, whose page this is not.
    console.error(error);
    connection("lost", "this page does not understand the daemon; load it again");
  }
  return pause;
}

function connection(state, text) {
  const element = byId("connection");
  if (element.dataset.state !== state) {
    element.dataset.state = state;
  }
  setText(byId("connection-text"), text);
}

async function followEvents() {
  const kind = byId("events-kind").value;
  const following = events.follow(kind);
  const stop = events.stop;
  try {
    await following;
  } catch (error) {
    // What is wrong is noticed where the daemon is looked at, and said there.
    if (error instanceof Refused) {
      toast(`No events: ${error.message}`);
      // Not at once again.
      await new Promise((resolve) => setTimeout(resolve, RETRY.most));
    }
  }
  if (events.stop === stop) {
    // It broke off; the next look that is answered follows again.
    events.stop = null;
  }
}

// Signing in and out

function askForToken(problem = "") {
  signedIn = false;
  client.forget();
  clearTimeout(timer);
  forget();
  for (const id of ["picture", "tools", "facts"]) {
    byId(id).hidden = true;
  }
  connection("none", "not signed in");
  byId("sign-in").hidden = false;
  setText(byId("sign-in-problem"), problem);
  byId("token").value = "";
  byId("token").focus();
}

/** Whoever comes to this tab next may be somebody else: nothing that was told stays in it. */
function forget() {
  status = null;
  detection = null;
  events.end();
  events.clear();
  clearExplanation();
  clearAct();
  clearViews();
  toast("");
}

async function signIn(event) {
  event.preventDefault();
  const field = byId("token");
  client.token = field.value.trim();
  try {
    await client.get("v1/status");
  } catch (error) {
    client.forget();
    const problems = [
      [Unauthorized, "The daemon does not know this token."],
      [Unreachable, "The daemon does not answer."],
    ];
    const known = problems.find(([kind]) => error instanceof kind);
    setText(byId("sign-in-problem"), known?.[1] ?? error.message);
    field.select();
    return;
  }
  client.keep(client.token);
  field.value = "";
  enter();
}

/** Shows the picture. */
function enter() {
  signedIn = true;
  byId("sign-in").hidden = true;
  for (const id of ["picture", "tools", "facts"]) {
    byId(id).hidden = false;
  }
  connection("none", "asking");
  lookNow();
}

// What people do

function on(id, kind, act) {
  byId(id).addEventListener(kind, act);
}

on("sign-in-form", "submit", signIn);
on("sign-out", "click", () => askForToken());
on("search", "submit", (event) => {
  event.preventDefault();
  const address = byId("search-address").value.trim();
  if (address !== "") {
    explain(address);
  }
});
on("act-form", "submit", submitAct);
on("ban-new", "click", () => askToBan());
on("allow-new", "click", () => askToAllow());

let typing = 0;
on("bans-filter", "input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    bans.search = byId("bans-filter").value.trim();
    bans.before = [];
    lookNow();
  }, 250);
});
on("bans-older", "click", () => {
  const last = bans.shown.at(-1);
  if (last !== undefined) {
    bans.before.push(last.id);
    lookNow();
  }
});
on("bans-newer", "click", () => {
  bans.before.pop();
  lookNow();
});

on("events-kind", "change", () => {
  events.clear();
  followEvents();
});
on("events-pause", "click", () => {
  events.pause(!events.paused);
  byId("events-pause").setAttribute("aria-pressed", String(events.paused));
  setText(byId("events-pause"), events.paused ? "Go on" : "Pause");
});
setInterval(() => events.show(), 250);
setInterval(countDown, 1000);
on("observe", "click", () => switchObserving(true));

for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
on("explain", "close", () => {
  clearTimeout(explained.timer);
  explained.address = null;
});
on("act", "close", () => {
  act = null;
});

document.addEventListener("visibilitychange", () => {
  if (!signedIn) {
    return;
  }
  if (document.hidden) {
    // Nobody looks: the daemon is left alone.
    clearTimeout(timer);
    events.end();
    connection("paused", "resting while nobody looks");
  } else {
    lookNow();
  }
});

if (client.token === null) {
  askForToken();
} else {
  enter();
}

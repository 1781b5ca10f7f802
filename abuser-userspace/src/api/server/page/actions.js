// What can be changed here, each after a look at what it is going to be.

let act = null;

/** Asks before something is done; `fields` are those that are to be filled in. */
function ask({ title, text = "", submit, danger = false, fields = [], source = "", run }) {
  setText(byId("act-title"), title);
  setText(byId("act-text"), text);
  setText(byId("act-problem"), "");
  for (const field of document.querySelectorAll("#act-form [data-field]")) {
    const wanted = fields.includes(field.dataset.field);
    field.hidden = !wanted;
    field.querySelector("input").disabled = !wanted;
    field.querySelector("input").value = "";
  }
  byId("act-source").value = source;
  byId("act-source").required = true;
  const button = byId("act-submit");
  setText(button, submit);
  button.disabled = false;
  button.classList.toggle("danger", danger);
  act = run;
  byId("act").showModal();
}

/** Closes the question, and forgets what it was about and what was filled in. */
function clearAct() {
  act = null;
  byId("act").close();
  for (const id of ["act-title", "act-text", "act-problem"]) {
    setText(byId(id), "");
  }
  byId("act-form").reset();
}

async function submitAct(event) {
  event.preventDefault();
  const button = byId("act-submit");
  if (act === null || button.disabled) {
    return;
  }
  button.disabled = true;
  setText(byId("act-problem"), "");
  try {
    const done = await act();
    if (!signedIn) {
      return;
    }
    byId("act").close();
    toast(done);
    lookNow();
    refreshExplanation();
  } catch (error) {
    if (!signedIn) {
      return;
    }
    if (error instanceof Unauthorized) {
      askForToken("The daemon does not know this token any more.");
    } else if (error instanceof Unreachable) {
      setText(byId("act-problem"), "The daemon does not answer; whether it has done this is not known. Look before you try again.");
    } else {
      setText(byId("act-problem"), error.message);
    }
  } finally {
    button.disabled = false;
  }
}

/** What was typed as an address or prefix, with its length. */
function typedSource() {
  const text = byId("act-source").value.trim();
  if (text === "") {
    throw new Refused(400, "Say whom: an address or a prefix.");
  }
  if (text.includes("/")) {
    return text;
  }
  return `${text}/${text.includes(":") ? 128 : 32}`;
}

function typedDuration() {
  const text = byId("act-duration").value.trim();
  if (text === "") {
    return "policy";
  }
  if (["permanent", "-1", "for good"].includes(text.toLowerCase())) {
    return "permanent";
  }
  const length = seconds(text);
  if (length === null) {
    throw new Refused(400, `“${text}” is not a time; write for example 10m, 1d 12h or permanent.`);
  }
  return { seconds: length };
}

function typedReason() {
  const text = byId("act-reason").value.trim();
  return text === "" ? null : text;
}

function askToBan(source = "") {
  ask({
    title: source === "" ? "Ban" : `Ban ${bare(source)}`,
    text: "Every packet from there is dropped at once, those of established connections included.",
    submit: "Ban",
    danger: true,
    fields: ["source", "duration", "reason"],
    source,
    run: async () => {
      const sources = [typedSource()];
      const [ban] = await client.ask("POST", "v1/bans", { sources, duration: typedDuration(), reason: typedReason() });
      return `${bare(ban.source)} is banned, ${left(ban.remaining_seconds)}.`;
    },
  });
}

function askToUnban(ban) {
  const source = bare(ban.source);
  ask({
    title: `Unban ${source}?`,
    text: `It was banned: ${[causeOf(ban), ban.reason].filter((part) => part !== null).join(": ")}.`,
    submit: "Unban",
    run: async () => {
      await client.ask("DELETE", "v1/bans", { sources: [ban.source] });
      return `${source} is not banned any more.`;
    },
  });
}

function askToAllow(source = "") {
  ask({
    title: source === "" ? "Allow" : `Allow ${bare(source)}`,
    text: "Whatever limits and bans say, nothing from there is dropped any more.",
    submit: "Allow",
    fields: ["source", "reason"],
    source,
    run: async () => {
      const sources = [typedSource()];
      const [entry] = await client.ask("POST", "v1/allow", { sources, reason: typedReason() });
      return `${bare(entry.source)} is allowed.`;
    },
  });
}

function askToDisallow(entry) {
  const source = bare(entry.source);
  ask({
    title: `Allow ${source} no more?`,
    text: "Limits and bans apply to it again.",
    submit: "Take off the list",
    run: async () => {
      await client.ask("DELETE", "v1/allow", { sources: [entry.source] });
      return `${source} is not allowed any more.`;
    },
  });
}

function askToUnthrottle(source, limit) {
  ask({
    title: `End limit ${limit} for ${bare(source)}?`,
    submit: "End it",
    run: async () => {
      await client.ask("DELETE", "v1/throttles", { sources: [source], limit });
      return `Limit ${limit} does not apply to ${bare(source)} any more.`;
    },
  });
}

function switchObserving(observe) {
  ask({
    title: observe ? "Only observe?" : "Enforce?",
    text: observe
      ? "Nothing is dropped any more, only counted and reported, until you enforce again or the daemon is restarted."
      : "What is over a limit or banned is dropped from now on, until the daemon is restarted.",
    submit: observe ? "Only observe" : "Enforce",
    danger: observe,
    run: async () => {
      const now = await client.ask("POST", "v1/observe", { observe });
      return now.observe ? "abuser only observes now." : "abuser enforces now.";
    },
  });
}

function confirmDaemon() {
  ask({
    title: "Let the daemon go on?",
    text: "You can still reach this host through it, so it need not detach by itself.",
    submit: "Confirm",
    run: async () => {
      await client.ask("POST", "v1/confirm");
      return "The daemon goes on.";
    },
  });
}

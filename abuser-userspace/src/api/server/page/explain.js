// What a packet from an address would meet, and why: `abuser explain` in a dialog that stays up to date.

const explained = { address: null, timer: 0, shown: "" };

/** Opens the dialog for an address, or for the first one of a prefix. */
function explain(source) {
  const address = source.split("/")[0];
  const dialog = byId("explain");
  explained.address = address;
  explained.shown = "";
  const isOne = !bare(source).includes("/");
  setText(byId("explain-title"), isOne ? address : `${address}, the first of ${source}`);
  byId("explain-body").replaceChildren(make("p", { className: "note", textContent: "Asking…" }));
  byId("explain-actions").replaceChildren();
  if (!dialog.open) {
    dialog.showModal();
  }
  return refreshExplanation();
}

/** Closes the dialog, and forgets what it told. */
function clearExplanation() {
  clearTimeout(explained.timer);
  Object.assign(explained, { address: null, shown: "" });
  byId("explain").close();
  setText(byId("explain-title"), "");
  byId("explain-body").replaceChildren();
  byId("explain-actions").replaceChildren();
  byId("search-address").value = "";
}

async function refreshExplanation() {
  const address = explained.address;
  clearTimeout(explained.timer);
  if (address === null || !byId("explain").open) {
    return;
  }
  try {
    const explanation = await client.get(`v1/explain/${encodeURIComponent(address)}`);
    if (explained.address === address) {
      showExplanation(explanation);
    }
  } catch (error) {
    if (error instanceof Unauthorized) {
      askForToken("The daemon does not know this token any more.");
      return;
    }
    if (explained.address === address) {
      const text = error instanceof Refused ? error.message : "The daemon does not answer.";
      explained.shown = "";
      byId("explain-body").replaceChildren(make("p", { className: "problem", textContent: text }));
      byId("explain-actions").replaceChildren();
    }
    if (error instanceof Refused) {
      return;
    }
  }
  explained.timer = setTimeout(refreshExplanation, 2000);
}

function showExplanation(explanation) {
  // Whoever reads or selects is not disturbed while nothing has changed but times.
  const said = JSON.stringify(explanation, (key, value) => (key === "remaining_seconds" ? undefined : value));
  if (said === explained.shown) {
    return;
  }
  explained.shown = said;
  const { tone, text } = verdictOf(explanation);
  const parts = [make("p", { className: "verdict", id: "verdict", tone, textContent: text })];
  const part = (title, items, build) => {
    if (items.length > 0) {
      parts.push(make("h3", { textContent: title }), make("ul", { className: "story" }, ...items.map(build)));
    }
  };
  part("Bans", explanation.bans, banStory);
  part("Allow list", explanation.allow, allowStory);
  part("Throttled", explanation.throttles, throttleStory);
  part("What limits have left for it", explanation.limits, levelStory);
  part("Offences", explanation.offences, offenceStory);
  part("Earlier bans", explanation.history, pastStory);
  byId("explain-body").replaceChildren(...parts);
  byId("explain-actions").replaceChildren(...explanationActions(explanation));
}

/** A line, what there is to say of it, and what was seen. */
function story(line, details, evidence = []) {
  const item = make("li", {}, make("div", { textContent: line }));
  const known = details.filter((detail) => detail !== null && detail !== "");
  if (known.length > 0) {
    item.append(make("div", { className: "detail", textContent: known.join("; ") }));
  }
  if (evidence.length > 0) {
    const lines = evidence.map(({ time, text }) =>
      make("li", {}, make("time", { textContent: clock(time), dateTime: time }), text),
    );
    item.append(make("ol", { className: "evidence" }, ...lines));
  }
  return item;
}

function said(words, value) {
  return value === null || value === undefined ? null : `${words}${value}`;
}

function banStory(ban) {
  const until = ban.expires === null ? "for good" : `until ${clock(ban.expires)}`;
  return story(
    `${bare(ban.source)} is banned ${until}: ${causeOf(ban)}`,
    [
      said("", ban.reason),
      said("by ", ban.by),
      said("policy ", ban.policy),
      ban.offences === null ? null : counted(ban.offences, "offence", "offences"),
      said("since ", ban.created === null ? null : clock(ban.created)),
      `${counted(ban.hits, "packet", "packets")} met it`,
    ],
    ban.evidence,
  );
}

function allowStory(entry) {
  const origins = { config: "the configuration names it", command: "a command named it", automatic: "by itself" };
  return story(`${bare(entry.source)} is allowed: ${origins[entry.origin] ?? entry.origin}`, [
    said("", entry.note),
    said("by ", entry.by),
    said("since ", entry.created === null ? null : clock(entry.created)),
  ]);
}

function throttleStory(throttle) {
  const until = throttle.expires === null ? "for good" : `until ${clock(throttle.expires)}`;
  return story(`Limit ${throttle.limit} applies to ${bare(throttle.source)} ${until}`, [
    said("", throttle.reason),
    said("by ", throttle.by),
  ]);
}

function levelStory(level) {
  const observes = level.action === "observe" ? ", only observed" : "";
  const item = story(`${level.limit}: ${level.rate} ${level.count}${observes}`, []);
  const words = ({ left, capacity, source }) => `${grouped(left)} of ${grouped(capacity)} left for ${bare(source)}`;
  levelBar(item, words)(level);
  return item;
}

function offenceStory(record) {
  const next = record.next_ban_seconds === null ? "for good" : `for ${span(record.next_ban_seconds)}`;
  return story(
    `Policy ${record.policy}: ${record.offences} of ${record.maxretry} offences that ban ${bare(record.source)}`,
    [`banned ${counted(record.bans, "time", "times")} before`, `the next ban is ${next}`],
    record.evidence,
  );
}

function pastStory(past) {
  return story(`Ban ${past.id} of ${bare(past.source)}: ${past.how} ${clock(past.ended)}`, [
    nameOfCause(past.cause),
    said("", past.reason),
    said("by ", past.by),
    said("since ", past.created === null ? null : clock(past.created)),
    `${counted(past.hits, "packet", "packets")} met it`,
  ]);
}

/** What can be done about it. */
function explanationActions(explanation) {
  const button = (words, act) => {
    const element = make("button", { type: "button", textContent: words });
    element.addEventListener("click", act);
    return element;
  };
  const { address } = explanation;
  const buttons = explanation.bans.map((ban) => button(`Unban ${bare(ban.source)}…`, () => askToUnban(ban)));
  for (const entry of explanation.allow.filter(({ origin }) => origin === "command")) {
    buttons.push(button(`Allow ${bare(entry.source)} no more…`, () => askToDisallow(entry)));
  }
  for (const { source, limit } of explanation.throttles) {
    buttons.push(button(`End ${limit} for ${bare(source)}…`, () => askToUnthrottle(source, limit)));
  }
  if (explanation.bans.length === 0) {
    buttons.push(button("Ban…", () => askToBan(address)));
  }
  if (explanation.allow.length === 0) {
    buttons.push(button("Allow…", () => askToAllow(address)));
  }
  return buttons;
}

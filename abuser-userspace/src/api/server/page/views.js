// What the daemon tells, part by part. Each part has a function that is given an answer and shows it.

/** Numbers of a sparkline: a minute, one a second. */
const COURSE = 60;

/** How much a counter grew a second, from one look to the next; what went down began anew. */
class Rates {
  constructor() {
    this.before = new Map();
  }

  /** Forgets what was counted: another daemon counts. */
  reset() {
    this.before.clear();
  }

  /** The rate of a counter that is `count` at `time`, in milliseconds; `null` at its first look. */
  of(name, count, time) {
    const before = this.before.get(name);
    if (before !== undefined && count >= before.count && time - before.time < 250) {
      // Too soon to tell.
      return before.rate;
    }
    const isOne = before !== undefined && count >= before.count;
    const rate = isOne ? ((count - before.count) * 1000) / (time - before.time) : null;
    this.before.set(name, { count, time, rate });
    return rate;
  }
}

const rates = new Rates();

// Traffic by verdict

const courses = new Map(OUTCOMES.map(({ name }) => [name, []]));

const fillTraffic = table("traffic", (outcome) => outcome.name, [
  {
    head: true,
    make: (cell, outcome) => {
      cell.append(make("span", { className: "key", tone: outcome.tone }), outcome.words);
      return (item, row) => {
        row.id = `traffic-${item.name}`;
        row.classList.toggle("quiet-row", item.packets === 0);
      };
    },
  },
  numberColumn((outcome) => (outcome.rate === null ? "–" : short(outcome.rate))),
  numberColumn((outcome) => (outcome.bits === null ? "–" : short(outcome.bits))),
  {
    make: (cell, outcome) => {
      setTone(cell, outcome.tone);
      const draw = sparkline(cell, COURSE);
      return (item) => draw(item.course);
    },
  },
  {
    className: "number",
    make: (cell) => (outcome) => {
      setText(cell, grouped(outcome.packets));
      cell.dataset.packets = outcome.packets;
    },
  },
]);

function showTraffic(status, time) {
  const items = OUTCOMES.map((outcome) => {
    const { packets, bytes } = status.outcomes[outcome.name] ?? { packets: 0, bytes: 0 };
    const rate = rates.of(`packets ${outcome.name}`, packets, time);
    const byteRate = rates.of(`bytes ${outcome.name}`, bytes, time);
    const course = courses.get(outcome.name);
    if (rate !== null) {
      course.push(rate);
      course.splice(0, course.length - COURSE);
    }
    return { ...outcome, packets, rate, bits: byteRate === null ? null : byteRate * 8, course };
  });
  fillTraffic(items);
}

// The daemon

function showFacts(status) {
  const attached = status.interfaces.map(({ name, state, mode }) => {
    return state === "attached" ? `${name} (${mode})` : `${name}: ${state}`;
  });
  const facts = [
    ["version", status.version],
    ["up", span(status.uptime_seconds)],
    ["interfaces", attached.join(", ") || "none"],
    ["mode", status.observe ? "only observing" : "enforcing"],
    ["bans", `${grouped(status.bans)} of ${grouped(status.capacity.bans)}`],
    ["allowed", grouped(status.allow)],
    ["throttled", grouped(status.throttles)],
    ["buckets in use", grouped(status.buckets.active)],
  ];
  const list = byId("facts");
  if (list.children.length !== facts.length) {
    list.replaceChildren(
      ...facts.map(([name]) => make("div", {}, make("dt", { textContent: name }), make("dd", { id: `fact-${name}` }))),
    );
  }
  facts.forEach(([, text], index) => setText(list.children[index].lastChild, text));
}

/** What to worry about, the worst first. */
function worries(status, detection) {
  const worries = [];
  const add = (tone, text, button) => worries.push({ tone, text, button });
  for (const { name, state, error } of status.interfaces) {
    if (state === "missing") {
      add("bad", `Interface ${name} is missing; it is protected again when it returns.`);
    } else if (state === "refused") {
      add("bad", `Interface ${name} is not protected: ${error}`);
    }
  }
  if (status.store.error !== null) {
    add("bad", `Nothing is written to ${status.store.path} since ${clock(status.store.failed)}: ${status.store.error}`);
  }
  for (const { name, error } of status.blocklists) {
    if (error !== null) {
      add("bad", `Block list ${name} is not as its file says: ${error}`);
    }
  }
  if (detection?.error) {
    add("bad", `No log is read any more: ${detection.error}`);
  }
  for (const { name, error } of detection?.sources ?? []) {
    if (error !== null) {
      add("bad", `Log ${name} cannot be read: ${error}`);
    }
  }
  if (status.confirm_by !== null) {
    add("warn", `The daemon detaches at ${clock(status.confirm_by)} unless somebody confirms.`, ["Confirm", confirmDaemon]);
  }
  if (status.observe) {
    add("calm", "abuser only observes: nothing is dropped.", ["Enforce…", () => switchObserving(false)]);
  }
  return worries;
}

let bannersShown = "";

function showBanners(list) {
  // As long as they say the same they stay: a screen reader would tell them again.
  const said = JSON.stringify(list.map(({ tone, text }) => [tone, text]));
  if (said === bannersShown) {
    return;
  }
  bannersShown = said;
  const banners = list.map(({ tone, text, button }) => {
    const banner = make("div", { className: `banner ${tone}` }, make("span", { textContent: text }));
    if (button) {
      const [words, act] = button;
      const element = make("button", { type: "button", textContent: words });
      element.addEventListener("click", act);
      banner.append(element);
    }
    return banner;
  });
  byId("banners").replaceChildren(...banners);
}

// The busiest sources

/** How it stands with a source: a badge for each thing that is so. */
function stateOf(source) {
  const badges = [];
  if (source.allow) {
    badges.push(["allow", "allowed", "the allow list has it"]);
  }
  if (source.ban !== null) {
    const { cause, source: banned } = source.ban;
    badges.push(["ban", `banned ${untilThen(source.ban)}`, `${banned} is banned: ${cause}`]);
  }
  for (const limit of source.throttled) {
    badges.push(["limit", `throttled: ${limit}`]);
  }
  if (badges.length === 0) {
    // A bucket that is empty has a place again a moment later: that packets are over it tells more.
    const isOver = source.rate > 0 || source.level?.left === 0;
    badges.push(isOver ? ["limit", "over its limit"] : ["good", "within its limits"]);
  }
  // Why somebody who is over a limit is not banned.
  if (source.verified === false && source.ban === null && !source.allow && source.recent > 0) {
    badges.push(["plain", "unverified", "it has no TCP connection to this host: it may be forged"]);
  }
  return badges;
}

function usedOf(level) {
  const used = level.left === 0 ? "all" : grouped(level.capacity - level.left);
  return `${used} of ${grouped(level.capacity)}, ${level.limit}`;
}

const fillTop = table("top", (source) => source.source, [
  sourceColumn((source) => source.source),
  numberColumn((source) => short(source.rate)),
  numberColumn((source) => grouped(source.recent)),
  {
    make: (cell) => {
      const show = levelBar(cell, usedOf);
      return (source) => show(source.level);
    },
  },
  badgeColumn(stateOf),
]);

function showTop(top) {
  note(top.sources.map(({ ban }) => ban).filter((ban) => ban !== null));
  fillTop(top.sources);
  byId("top-empty").hidden = top.sources.length > 0;
  setText(byId("top-aside"), `over a limit or banned: ${grouped(top.remembered)} remembered`);
}

// When what has an end ends, by this machine's clock that never jumps: the daemon's may tell another
// time than this machine's.
const ends = new WeakMap();

function note(bans) {
  for (const ban of bans) {
    if (ban.remaining_seconds !== null) {
      ends.set(ban, performance.now() + ban.remaining_seconds * 1000);
    }
  }
}

/** Seconds that a ban has left now; `null`: it is for good. */
function remaining(ban) {
  return ends.has(ban) ? Math.max(0, (ends.get(ban) - performance.now()) / 1000) : ban.remaining_seconds;
}

function untilThen(ban) {
  const seconds = remaining(ban);
  return seconds === null ? "for good" : span(seconds);
}

// Bans

/** Bans of a page. */
const BANS = 50;

const bans = {
  shown: [],
  found: 0,
  search: "",
  /** Numbers that the pages up to this one begin below; the first has none. */
  before: [],

  path() {
    const query = new URLSearchParams({ limit: BANS });
    if (this.search !== "") {
      query.set("search", this.search);
    }
    if (this.before.length > 0) {
      query.set("before", this.before.at(-1));
    }
    return `v1/bans/latest?${query}`;
  },
};

const fillBans = table("bans", (ban) => ban.id, [
  sourceColumn((ban) => ban.source),
  numberColumn(untilThen),
  badgeColumn((ban) => [[toneOfCause(ban.cause), causeOf(ban)]]),
  textColumn((ban) => ban.reason ?? "", "reason", { title: (ban) => ban.reason }),
  numberColumn((ban) => grouped(ban.hits)),
  numberColumn((ban) => (ban.created === null ? "–" : age(ban.created)), { title: (ban) => ban.created }),
  {
    make: (cell, ban) => {
      const button = make("button", { type: "button", className: "small", textContent: "Unban…" });
      button.setAttribute("aria-label", `Unban ${bare(ban.source)}`);
      let shown = ban;
      button.addEventListener("click", () => askToUnban(shown));
      cell.append(button);
      return (item) => {
        shown = item;
      };
    },
  },
]);

function showBans(answer) {
  note(answer.bans);
  bans.shown = answer.bans;
  bans.found = answer.found;
  fillBans(bans.shown);
  const isSearch = bans.search !== "";
  const what = isSearch ? counted(bans.found, "ban found", "bans found") : counted(bans.found, "ban", "bans");
  setText(byId("bans-count"), `${what}, the latest first`);
  const empty = byId("bans-empty");
  empty.hidden = bans.shown.length > 0;
  setText(empty, isSearch ? "No ban is found." : "Nobody is banned.");
  const first = bans.before.length * BANS;
  byId("bans-pages").hidden = bans.found <= BANS && first === 0;
  setText(byId("bans-page"), `${grouped(first + 1)} to ${grouped(first + bans.shown.length)} of ${grouped(bans.found)}`);
  byId("bans-newer").disabled = first === 0;
  byId("bans-older").disabled = bans.shown.length < BANS || first + bans.shown.length >= bans.found;
}

/** Forgets all that was told: nothing of it stays in the tab. */
function clearViews() {
  for (const fill of [fillTraffic, fillTop, fillBans, fillLimits, fillSources, fillDetectors]) {
    fill([]);
  }
  for (const id of ["top-aside", "bans-count", "bans-page", "bans-empty"]) {
    setText(byId(id), "");
  }
  Object.assign(bans, { shown: [], found: 0, search: "", before: [] });
  byId("bans-filter").value = "";
  byId("bans-pages").hidden = true;
  byId("facts").replaceChildren();
  showBanners([]);
  rates.reset();
  courses.forEach((course) => course.splice(0));
}

/** Lets times go on between two looks. */
function countDown() {
  fillBans(bans.shown);
}

// Limits

function appliesTo(limit) {
  const ports = limit.ports.join(", ");
  const protocol = limit.protocol === "any" ? "all" : limit.protocol;
  const what = ports === "" ? protocol : `${protocol}/${ports}`;
  return limit.only === null ? what : `${what}, if ${limit.only}`;
}

function grants(limit) {
  const burst = limit.burst > 0 ? `, burst ${grouped(limit.burst)}` : "";
  const each = [limit.ipv4_prefix, limit.ipv6_prefix].join("_") === "32_64" ? "" : ` a /${limit.ipv4_prefix}`;
  const what = limit.count === "packets" ? "" : ` ${limit.count}`;
  return `${limit.rate}${what}${each}${burst}`;
}

function over(limit) {
  return limit.dropped + limit.observed + limit.allowed;
}

const fillLimits = table("limits", (limit) => limit.name, [
  {
    head: true,
    make: (cell) => {
      const name = make("span");
      const badge = make("span", { className: "badge", tone: "watch", textContent: "observes" });
      cell.append(name, " ", badge);
      return (limit) => {
        setText(name, limit.name);
        badge.hidden = limit.action !== "observe";
      };
    },
  },
  textColumn(appliesTo),
  textColumn(grants),
  numberColumn((limit) => grouped(limit.sources)),
  numberColumn((limit) => (limit.passedRate === null ? "–" : short(limit.passedRate))),
  numberColumn((limit) => (limit.overRate === null ? "–" : short(limit.overRate))),
  numberColumn((limit) => grouped(over(limit)), {
    title: (limit) => `${limit.dropped} dropped, ${limit.observed} observed, ${limit.allowed} allowed`,
  }),
]);

function showLimits(limits, time) {
  fillLimits(
    limits.map((limit) => ({
      ...limit,
      passedRate: rates.of(`passed ${limit.name}`, limit.passed, time),
      overRate: rates.of(`over ${limit.name}`, over(limit), time),
    })),
  );
  byId("limits-empty").hidden = limits.length > 0;
}

// Logs and detectors

/** What is not as it should be with a log; a badge if all is well. */
function stateOfLog(log) {
  if (log.error !== null) {
    return [["ban", "cannot be read", log.error]];
  }
  const troubles = [
    [log.lost, "lost"],
    [log.unparsed, "not understood"],
    [log.cut, "cut"],
    [log.stale, "too old"],
  ];
  const badges = troubles
    .filter(([count]) => count > 0)
    .map(([count, words]) => ["limit", `${grouped(count)} ${words}`, words === "not understood" ? log.unparsed_sample : null]);
  if (log.lag_bytes > 1 << 20) {
    badges.unshift(["limit", `${short(log.lag_bytes)}B behind`]);
  }
  return badges.length > 0 ? badges : [["good", "fine"]];
}

const fillSources = table("sources", (log) => log.name, [
  textColumn((log) => log.name, "", { head: true }),
  textColumn((log) => log.parser ?? "filters"),
  numberColumn((log) => (log.rate === null ? "–" : short(log.rate))),
  numberColumn((log) => grouped(log.lines)),
  numberColumn((log) => (log.last === null ? "–" : age(log.last)), { title: (log) => log.last }),
  badgeColumn(stateOfLog),
]);

const ACTION_TONES = { ban: "ban", throttle: "limit", alert: "watch" };

const fillDetectors = table("detectors", (detector) => detector.name, [
  textColumn((detector) => detector.name, "", { head: true, title: (detector) => `reads ${detector.sources.join(", ")}` }),
  textColumn((detector) => detector.kind),
  badgeColumn((detector) => [[ACTION_TONES[detector.action] ?? "plain", detector.action]]),
  numberColumn((detector) => grouped(detector.matched)),
  numberColumn((detector) => grouped(detector.found)),
  numberColumn((detector) => grouped(detector.tracked), {
    title: (detector) => `room for ${detector.capacity}, ${detector.evicted} forgotten for want of it`,
  }),
]);

function showDetection(detection, time) {
  fillSources(detection.sources.map((log) => ({ ...log, rate: rates.of(`lines ${log.name}`, log.lines, time) })));
  fillDetectors(detection.detectors);
  byId("sources-table").hidden = detection.sources.length === 0;
  byId("detectors-table").hidden = detection.detectors.length === 0;
  byId("logs-empty").hidden = detection.sources.length + detection.detectors.length > 0;
}

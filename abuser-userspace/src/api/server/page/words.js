// Numbers, times and verdicts as people read them.

/** What each outcome of a packet is called, and in which colour it is told. */
const OUTCOMES = [
  { name: "passed", words: "passed", tone: "good" },
  { name: "dropped_limit", words: "dropped by a limit", tone: "limit" },
  { name: "dropped_ban", words: "dropped by a ban", tone: "ban" },
  { name: "dropped_hidden", words: "dropped as hidden", tone: "hidden" },
  { name: "observed", words: "only observed", tone: "watch" },
  { name: "allowed", words: "on the allow list", tone: "allow" },
  { name: "not_ip", words: "not IP", tone: "plain" },
  { name: "malformed", words: "malformed", tone: "plain" },
];

/** In which colour each kind of event is told. */
const EVENT_TONES = {
  drop: "limit",
  observe: "watch",
  allow: "allow",
  ban: "ban",
  unban: "good",
  detect: "hidden",
  throttle: "limit",
  unthrottle: "good",
  missed: "plain",
};

/** A count with its thousands apart: `1 234 567`. */
function grouped(count) {
  return String(count).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

function counted(count, one, many) {
  return `${grouped(count)} ${count === 1 ? one : many}`;
}

/** A rate in three digits: `0`, `0.4`, `12`, `1.25 M`. */
function short(rate) {
  const units = ["", "k", "M", "G", "T"];
  let unit = 0;
  while (rate >= 999.5 && unit < units.length - 1) {
    rate /= 1000;
    unit += 1;
  }
  if (rate > 0 && rate < 0.05) {
    return "< 0.1";
  }
  const digits = unit === 0 ? (rate < 9.95 ? 1 : 0) : rate < 9.995 ? 2 : rate < 99.95 ? 1 : 0;
  const text = rate.toFixed(digits).replace(/^(\d+)\.0+$/, "$1");
  return unit === 0 ? text : `${text} ${units[unit]}`;
}

/** Seconds in the two largest units: `9m 58s`, `1d 4h`. */
function span(seconds) {
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  let rest = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [name, length] of units) {
    const many = Math.floor(rest / length);
    rest -= many * length;
    if (many > 0 || parts.length > 0 || name === "s") {
      parts.push(`${many}${name}`);
    }
    if (parts.length === 2) {
      break;
    }
  }
  return parts.join(" ").replace(/ 0[hms]$/, "");
}

/** How long ago a time was, by this machine's clock. */
function age(time) {
  return span((Date.now() - Date.parse(time)) / 1000);
}

/** A time of day, or a date and time if that was another day. */
function clock(time) {
  const date = new Date(time);
  const isToday = date.toDateString() === new Date().toDateString();
  // As in logs.
  const style = { hourCycle: "h23" };
  return isToday ? date.toLocaleTimeString([], style) : date.toLocaleString([], style);
}

/**
 * Seconds of a text as in the configuration: `90s`, `1d 12h`, `1mo`; a number without a unit is
 * seconds. `null` if it is none.
 */
function seconds(text) {
  const units = { s: 1, sec: 1, m: 60, min: 60, h: 3600, d: 86400, w: 604800, mo: 2629800, y: 31557600, year: 31557600 };
  const parts = /^\s*(?:\d+\s*[a-z]*\s*)+$/i.test(text) ? text.matchAll(/(\d+)\s*([a-z]*)/gi) : [];
  let sum = 0;
  for (const [, number, unit] of parts) {
    const length = unit === "" ? 1 : units[unit.toLowerCase()];
    if (length === undefined) {
      return null;
    }
    sum += Number(number) * length;
  }
  return sum > 0 && Number.isSafeInteger(sum) ? sum : null;
}

/** What made a ban: `limit api`, `by hand, root`. */
function causeOf(ban) {
  const subject = ban.limit ?? ban.detector ?? ban.blocklist ?? ban.crowdsec ?? ban.node;
  const cause = nameOfCause(ban.cause);
  if (subject !== null && subject !== undefined) {
    return `${cause} ${subject}`;
  }
  return ban.by ? `${cause}, ${ban.by}` : cause;
}

function nameOfCause(cause) {
  return cause === "manual" ? "by hand" : cause;
}

function toneOfCause(cause) {
  const tones = { limit: "limit", detector: "hidden", manual: "ban", rollup: "ban", application: "hidden" };
  return tones[cause] ?? "watch";
}

/** What a packet would meet, in a sentence. */
function verdictOf(explanation) {
  const tones = { allowed: "allow", banned: "ban", limited: "limit", passes: "good" };
  const words = {
    allowed: "Passes: the allow list has it, whatever limits and bans say.",
    banned: "Dropped: it is banned.",
    limited: "Dropped for now: a limit has nothing left for it.",
    passes: "Passes.",
  };
  const tone = tones[explanation.verdict] ?? "plain";
  const text = words[explanation.verdict] ?? explanation.verdict;
  if (explanation.observe && ["banned", "limited"].includes(explanation.verdict)) {
    return { tone: "watch", text: `Passes, because abuser only observes; else: ${text}` };
  }
  return { tone, text };
}

/** A ban's or throttle's end: `9m 58s left`, `for good`. */
function left(secondsLeft) {
  return secondsLeft === null ? "for good" : `${span(secondsLeft)} left`;
}

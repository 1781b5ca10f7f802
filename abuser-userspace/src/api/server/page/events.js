// The stream of events: the last ones, as they happen.

/** Events that are kept. */
const EVENTS = 200;

const events = {
  /** Those that came and are not shown yet, the oldest first. */
  waiting: [],
  missed: 0,
  paused: false,
  stop: null,

  /** Follows them, from now on, with what the page asks for; ends what was followed before. */
  async follow(kind) {
    this.end();
    const stop = new AbortController();
    this.stop = stop;
    const path = kind === "" ? "v1/events" : `v1/events?${new URLSearchParams({ kind })}`;
    await client.follow(path, stop.signal, (event) => this.take(event));
  },

  end() {
    this.stop?.abort();
    this.stop = null;
  },

  take(event) {
    this.waiting.push(event);
    if (this.waiting.length > EVENTS) {
      this.waiting.shift();
      this.missed += 1;
    }
  },

  /** Shows what came. Many at once are one change of the page. */
  show() {
    setText(byId("events-aside"), this.paused ? `${grouped(this.waiting.length + this.missed)} since the pause` : "as they happen");
    if (this.paused || this.waiting.length === 0) {
      return;
    }
    const list = byId("events");
    list.prepend(...this.waiting.reverse().map(eventItem));
    this.waiting = [];
    this.missed = 0;
    while (list.children.length > EVENTS) {
      list.lastChild.remove();
    }
    byId("events-empty").hidden = true;
  },

  pause(paused) {
    this.paused = paused;
    this.show();
  },

  clear() {
    this.waiting = [];
    this.missed = 0;
    byId("events").replaceChildren();
    byId("events-empty").hidden = false;
  },
};

/** What an event says, besides when, what and who. */
function eventWords(event) {
  switch (event.kind) {
    case "drop":
    case "observe":
    case "allow": {
      const to = event.port === null ? event.protocol : `${event.protocol}/${event.port}`;
      const why = event.limit === null ? `ban ${event.ban}` : `limit ${event.limit}`;
      const parts = [event.interface, to, why, counted(event.drops ?? 1, "packet", "packets")];
      return parts.filter((part) => part !== null).join(", ");
    }
    case "ban":
    case "throttle": {
      const by = event.kind === "ban" ? nameOfCause(event.cause) : `limit ${event.limit}`;
      const until = event.expires === null ? "for good" : `until ${clock(event.expires)}`;
      return [by, until, event.reason].filter((part) => part !== null).join(", ");
    }
    case "detect":
      return [event.detector, event.action, event.reason].filter((part) => part !== null).join(": ");
    case "missed":
      return `${counted(event.drops ?? 0, "event is", "events are")} missing here: this page was too slow`;
    default:
      return [nameOfCause(event.cause), event.limit, event.reason].filter((part) => part !== null).join(", ");
  }
}

function eventItem(event) {
  const time = make("time", { textContent: clock(event.time), dateTime: event.time, title: event.time });
  const kind = make("span", { className: "badge", tone: EVENT_TONES[event.kind] ?? "plain", textContent: event.kind });
  const who = make("span", { className: "who" }, event.source === null ? "" : addressButton(event.source));
  const said = make("span", { className: "said", textContent: eventWords(event) });
  return make("li", {}, time, make("span", {}, kind), who, said);
}

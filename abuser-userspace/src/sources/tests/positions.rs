use super::*;

#[test]
fn after_a_stop_reading_goes_on_where_it_was() {
    let logs = Logs::new();
    logs.append("access.log", "zero\n");
    let reading = logs.read("access.log", Begin::Start);
    logs.append("access.log", "one\nhalf of ");
    reading.expect(&["zero", "one"]);
    assert_eq!(reading.stop(), [""; 0]);
    logs.append("access.log", "two\nthree\n");
    for begin in [Begin::End, Begin::Start] {
        let reading = logs.read("access.log", begin);
        if begin == Begin::End {
            reading.expect(&["half of two", "three"]);
        }
        assert_eq!(reading.stop(), [""; 0]);
    }
}

#[test]
fn a_file_that_was_rotated_during_a_stop_is_read_to_its_end() {
    for way in [
        "rename",
        "rename within the pattern",
        "copy",
        "packed",
        "by date",
    ] {
        let logs = Logs::new();
        let pattern = if way == "rename within the pattern" {
            "access.log*"
        } else {
            "access.log"
        };
        logs.append("access.log", "203.0.113.7 zero\n");
        let reading = logs.read(pattern, Begin::Start);
        reading.expect(&["203.0.113.7 zero"]);
        assert_eq!(reading.stop(), [""; 0]);
        logs.append("access.log", "one\n");
        let path = logs.path("access.log");
        match way {
            "copy" => {
                fs::copy(&path, logs.path("access.log.1")).unwrap();
                File::create(&path).unwrap();
            }
            "packed" => fs::remove_file(&path).unwrap(),
            "by date" => fs::rename(&path, logs.path("access-20260131.log")).unwrap(),
            _ => fs::rename(&path, logs.path("access.log.1")).unwrap(),
        }
        logs.append("access.log", "two\n");
        let reading = logs.read(pattern, Begin::End);
        if way != "packed" {
            reading.expect(&["one"]);
        }
        reading.expect(&["two"]);
        if way.starts_with("rename") {
            logs.append("access.log.1", "late\n");
            reading.expect(&["late"]);
        }
        assert_eq!(reading.stop(), [""; 0], "{way}");
        assert_eq!(logs.read(pattern, Begin::End).stop(), [""; 0], "{way}");
    }
}

#[test]
fn a_file_that_came_into_being_during_a_stop_is_read_from_its_start() {
    let logs = Logs::new();
    logs.append("a.log", "a\n");
    let reading = logs.read("*.log", Begin::End);
    logs.append("a.log", "b\n");
    reading.expect(&["b"]);
    reading.stop();
    logs.append("b.log", "c\n");
    logs.read("*.log", Begin::End).expect(&["c"]);
}

#[test]
fn a_file_of_the_same_name_and_inode_with_another_beginning_is_another() {
    let logs = Logs::new();
    logs.append("access.log", "203.0.113.7 zero\n");
    let reading = logs.read("access.log", Begin::Start);
    reading.expect(&["203.0.113.7 zero"]);
    reading.stop();
    fs::write(logs.path("access.log"), "203.0.113.8 zero and more\n").unwrap();
    logs.read("access.log", Begin::End)
        .expect(&["203.0.113.8 zero and more"]);
}

#[test]
fn after_a_crash_what_was_read_in_the_last_second_is_read_again_and_nothing_is_missed() {
    let logs = Logs::new();
    logs.append("access.log", "");
    let reading = logs.read("access.log", Begin::Start);
    let mut kept = Vec::new();
    let started = Instant::now();
    let mut read = 0;
    while started.elapsed() < Duration::from_secs(3) {
        logs.append("access.log", &format!("{read}\n"));
        reading.expect(&[&read.to_string()]);
        read += 1;
        kept.push((Instant::now(), logs.kept.lock().unwrap().clone()));
        std::thread::sleep(Duration::from_millis(20));
    }
    reading.stop();
    let lag = |at: &Instant, rows: &[PositionRow]| {
        // The offset at which each line began that was read by then.
        let offset = rows.first().map_or(0, |row| row.offset);
        kept.iter()
            .zip((0..read).scan(0, |end, number| {
                *end += number.to_string().len() as u64 + 1;
                Some(*end)
            }))
            .find(|(_, end)| *end > offset)
            .map_or(Duration::ZERO, |((read_at, _), _)| {
                at.saturating_duration_since(*read_at)
            })
    };
    let worst = kept.iter().map(|(at, rows)| lag(at, rows)).max().unwrap();
    assert!(
        worst < Duration::from_millis(1500),
        "{worst:?} are read again"
    );
    assert!(
        worst > Duration::from_millis(500),
        "{worst:?}: each line is written down"
    );
}

#[test]
fn sources_that_stay_go_on_and_others_are_exchanged_between_two_lines() {
    let logs = Logs::new();
    logs.append("a.log", "old\n");
    logs.append("b.log", "old\n");
    let a = logs.files("a.log", Begin::End);
    let b = SourceConfig {
        name: "b".to_owned(),
        ..logs.files("b.log", Begin::Start)
    };
    let reading = logs.start(vec![a.clone()]);
    logs.append("a.log", "one\n");
    reading.expect(&["one"]);
    let (told, is_told) = mpsc::channel();
    reading
        .handle
        .replace(vec![b.clone(), a.clone()], move |_| told.send(()).unwrap());
    is_told.recv_timeout(PATIENCE).unwrap();
    let (source, text, _) = reading.lines.recv_timeout(PATIENCE).unwrap();
    assert_eq!((source, &*text), (0, "old"));
    logs.append("a.log", "two\n");
    let (source, text, _) = reading.lines.recv_timeout(PATIENCE).unwrap();
    assert_eq!((source, &*text), (1, "two"));
    let names: Vec<_> = reading
        .handle
        .status()
        .into_iter()
        .map(|status| (status.name, status.lines))
        .collect();
    assert_eq!(names, [("b".to_owned(), 1), ("web".to_owned(), 2)]);
    // One that has changed goes on with the files that it still has, even under another name.
    for (name, pattern) in [("web", "[ab].log"), ("other", "[ab].log")] {
        let changed = SourceConfig {
            name: name.to_owned(),
            ..logs.files(pattern, Begin::Start)
        };
        let only = vec![changed];
        reading.handle.replace(only, |_| {});
        reading.settle();
        if name == "web" {
            // What `b` had read is not what `web` had.
            reading.expect(&["old"]);
        }
        logs.append("a.log", name);
        logs.append("a.log", "\n");
        reading.expect(&[name]);
    }
    assert_eq!(reading.stop(), [""; 0]);
    let kept = logs.kept.lock().unwrap();
    assert!(kept.iter().all(|row| row.key.source == "other"), "{kept:?}");
    assert_eq!(kept.len(), 2);
}

#[test]
fn files_that_are_not_asked_for_any_more_are_not_read() {
    let logs = Logs::new();
    logs.append("a.log", "a\n");
    logs.append("b.log", "b\n");
    let reading = logs.read("a.log", Begin::Start);
    reading.expect(&["a"]);
    reading.stop();
    logs.append("a.log", "more\n");
    for name in ["web", "other"] {
        let before = logs.kept.lock().unwrap().clone();
        let source = SourceConfig {
            name: name.to_owned(),
            ..logs.files("b.log", Begin::Start)
        };
        let reading = logs.start(vec![source]);
        reading.expect(&["b"]);
        assert_eq!(reading.stop(), [""; 0], "{name}");
        *logs.kept.lock().unwrap() = before;
    }
}

#[test]
fn a_log_that_was_rotated_before_a_stop_is_followed_after_it() {
    let logs = Logs::new();
    logs.append("access.log", "zero\n");
    let reading = logs.read("access.log", Begin::Start);
    reading.expect(&["zero"]);
    fs::rename(logs.path("access.log"), logs.path("access.log.1")).unwrap();
    logs.append("access.log", "one\n");
    reading.expect(&["one"]);
    assert_eq!(reading.stop(), [""; 0]);
    // Its writer was not told yet.
    logs.append("access.log.1", "two\n");
    logs.append("access.log", "three\n");
    let reading = logs.read("access.log", Begin::Start);
    let mut lines = [reading.next(), reading.next()];
    lines.sort();
    assert_eq!(lines, ["three", "two"]);
    logs.append("access.log.1", "four\n");
    reading.expect(&["four"]);
    assert_eq!(reading.stop(), [""; 0]);
}

#[test]
fn all_positions_are_kept_again_for_a_store_that_lost_them() {
    let logs = Logs::new();
    logs.append("a.log", "a\n");
    let reading = logs.read("a.log", Begin::Start);
    reading.expect(&["a"]);
    std::thread::sleep(Duration::from_millis(1500));
    logs.kept.lock().unwrap().clear();
    reading.handle.keep_all();
    reading.settle();
    assert_eq!(logs.kept.lock().unwrap()[0].offset, 2);
}

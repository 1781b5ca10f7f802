use std::{
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;

#[test]
fn lines_are_read_as_they_are_written_from_the_end_or_from_the_start() {
    for begin in [Begin::End, Begin::Start] {
        let logs = Logs::new();
        logs.append("access.log", "old\n");
        let reading = logs.read("access.log", begin);
        if begin == Begin::Start {
            reading.expect(&["old"]);
        }
        logs.append("access.log", "one\ntwo\r\n\nno e");
        reading.expect(&["one", "two", ""]);
        logs.append("access.log", "nd\n");
        reading.expect(&["no end"]);
        let status = reading.wait_for(|status| status.lag == 0);
        assert_eq!(status.lines, if begin == Begin::Start { 5 } else { 4 });
        assert!(status.last.is_some());
        assert_eq!(status.files.len(), 1);
        assert_eq!(reading.stop(), [""; 0]);
    }
}

#[test]
fn a_file_that_is_not_there_yet_is_read_from_its_start_when_it_is() {
    let logs = Logs::new();
    let reading = logs.read("deep/er/access.log", Begin::End);
    let error = reading.status().error.unwrap();
    assert!(
        error.contains("there is no file") && error.contains("deep/er"),
        "{error}"
    );
    fs::create_dir_all(logs.path("deep/er")).unwrap();
    logs.append("deep/er/access.log", "first\n");
    reading.expect(&["first"]);
    reading.wait_for(|status| status.error.is_none());
}

#[test]
fn a_renamed_file_is_read_to_its_end_and_the_new_one_comes_after() {
    let logs = Logs::new();
    logs.append("access.log", "zero\n");
    let reading = logs.read("access.log", Begin::End);
    let mut old = OpenOptions::new()
        .append(true)
        .open(logs.path("access.log"))
        .unwrap();
    writeln!(old, "one").unwrap();
    fs::rename(logs.path("access.log"), logs.path("access.log.1")).unwrap();
    reading.expect(&["one"]);
    // Its writer was not told yet.
    writeln!(old, "two").unwrap();
    reading.expect(&["two"]);
    logs.append("access.log", "three\n");
    reading.expect(&["three"]);
    writeln!(old, "four").unwrap();
    reading.expect(&["four"]);
    let status = reading.wait_for(|status| status.files.len() == 2);
    let files: Vec<_> = status
        .files
        .iter()
        .map(|file| (file.path.clone(), file.rotated))
        .collect();
    let expected = [("access.log", false), ("access.log.1", true)];
    assert_eq!(
        files,
        expected.map(|(name, rotated)| (logs.path(name), rotated))
    );
    assert_eq!(reading.stop(), [""; 0]);
}

#[test]
fn a_renamed_file_that_is_asked_for_by_its_new_name_too_is_read_once() {
    let logs = Logs::new();
    logs.append("access.log", "zero\n");
    let reading = logs.read("access.log*", Begin::Start);
    reading.expect(&["zero"]);
    for round in 0..3 {
        for number in (0..round).rev() {
            let name = |number| logs.path(&format!("access.log.{number}"));
            fs::rename(name(number), name(number + 1)).unwrap();
        }
        fs::rename(logs.path("access.log"), logs.path("access.log.0")).unwrap();
        logs.append("access.log", &format!("round {round}\n"));
        logs.append("access.log.0", "late\n");
        let mut lines = [reading.next(), reading.next()];
        lines.sort();
        assert_eq!(lines, ["late".to_owned(), format!("round {round}")]);
        std::thread::sleep(Duration::from_millis(60));
    }
    // Nor is what a packer makes of it.
    logs.append("access.log.3.gz", "\x1f\u{8b}\n");
    reading.expect_no_more();
}

#[test]
fn a_file_that_is_cut_is_read_from_its_start() {
    let logs = Logs::new();
    logs.append("access.log", "a line that is long\n");
    let reading = logs.read("access.log", Begin::Start);
    reading.expect(&["a line that is long"]);
    let file = OpenOptions::new()
        .write(true)
        .open(logs.path("access.log"))
        .unwrap();
    file.set_len(0).unwrap();
    logs.append("access.log", "new\n");
    reading.expect(&["new"]);
    // As long as it was, or longer, at once.
    fs::write(logs.path("access.log"), "NEW\n").unwrap();
    reading.expect(&["NEW"]);
    fs::write(logs.path("access.log"), "longer than before\n").unwrap();
    reading.expect(&["longer than before"]);
    logs.append("access.log", "more\n");
    reading.expect(&["more"]);
    reading.expect_no_more();
}

#[test]
fn what_was_not_read_when_a_file_was_cut_is_read_from_its_copy() {
    let logs = Logs::new();
    logs.append("access.log", "203.0.113.7 a first line to tell it by\n");
    let reading = logs.read("access.log*", Begin::Start);
    reading.expect(&["203.0.113.7 a first line to tell it by"]);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(logs.path("access.log"))
        .unwrap();
    // The thread that reads is held up, as by a sink that is slow.
    let (go_on, wait) = mpsc::channel::<()>();
    reading.handle.with(move |_| {
        let _gone = wait.recv_timeout(PATIENCE);
    });
    logs.append("access.log", "two\nthree\n");
    fs::copy(logs.path("access.log"), logs.path("access.log.1")).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(b"four\n", 0).unwrap();
    drop(go_on);
    reading.expect(&["two", "three", "four"]);
    // Nor is the copy read again because it is asked for by its name.
    reading.expect_no_more();
}

#[test]
fn what_is_cut_off_before_it_was_read_is_told_of_when_there_is_no_copy() {
    let logs = Logs::new();
    logs.append("access.log", "a first line to tell it by\n");
    let reading = logs.read("access.log", Begin::Start);
    reading.expect(&["a first line to tell it by"]);
    // Read in many turns.
    let many = "one of many\n".repeat(2_000_000);
    logs.append("access.log", &many);
    reading.wait_for(|status| status.lines > 1);
    let (go_on, wait) = mpsc::channel::<()>();
    reading.handle.with(move |_| {
        let _gone = wait.recv_timeout(PATIENCE);
    });
    let before = reading.wait_for(|status| status.lag > 0);
    assert_eq!(before.lost, 0);
    fs::write(logs.path("access.log"), "new\n").unwrap();
    drop(go_on);
    let read = reading.wait_for(|status| status.lost > 0 && status.lag == 0);
    assert_eq!(read.lost, 1);
    fs::write(logs.path("access.log"), "").unwrap();
    logs.append("access.log", "what was read whole is no loss\n");
    let status = reading.wait_for(|status| status.lines > read.lines);
    assert_eq!(status.lost, 1);
}

#[test]
fn an_end_that_is_cut_off_before_it_was_read_is_told_of_and_what_is_left_is_read() {
    let logs = Logs::new();
    logs.append("access.log", "a first line to tell it by\n");
    let reading = logs.read("access.log", Begin::Start);
    reading.expect(&["a first line to tell it by"]);
    // Read in many turns.
    logs.append("access.log", &"one of many\n".repeat(2_000_000));
    reading.wait_for(|status| status.lines > 1);
    let (go_on, wait) = mpsc::channel::<()>();
    reading.handle.with(move |_| {
        let _gone = wait.recv_timeout(PATIENCE);
    });
    let before = reading.wait_for(|status| status.lag > 0);
    let file = fs::File::options()
        .write(true)
        .open(logs.path("access.log"))
        .unwrap();
    let length = file.metadata().unwrap().len();
    // A line less, all of what was read is there.
    assert!(before.lag > 24, "{before:?}");
    file.set_len(length - 12).unwrap();
    drop(go_on);
    let read = reading.wait_for(|status| status.lost > 0 && status.lag == 0);
    assert_eq!((read.lost, read.lines), (1, 2_000_000));
}

#[test]
fn a_copy_of_a_log_is_not_read_again() {
    let logs = Logs::new();
    logs.append("access.log", "203.0.113.7 a first line to tell it by\n");
    let reading = logs.read("access*", Begin::Start);
    reading.expect(&["203.0.113.7 a first line to tell it by"]);
    fs::copy(logs.path("access.log"), logs.path("access.log.bak")).unwrap();
    logs.append("access.log", "two\n");
    reading.expect(&["two"]);
    logs.append("access-api.log", "of another program\n");
    reading.expect(&["of another program"]);
    reading.expect_no_more();
}

#[test]
fn what_is_left_of_a_renamed_file_comes_before_what_is_in_the_new_one() {
    let logs = Logs::new();
    logs.append("access.log", "");
    let reading = logs.read("access.log", Begin::Start);
    let (go_on, wait) = mpsc::channel::<()>();
    reading.handle.with(move |_| {
        let _gone = wait.recv_timeout(PATIENCE);
    });
    let old = format!("{}\n", "x".repeat(99)).repeat(50_000);
    logs.append("access.log", &old);
    fs::rename(logs.path("access.log"), logs.path("access.log.1")).unwrap();
    logs.append("access.log", "new\n");
    drop(go_on);
    for _ in 0..50_000 {
        assert_ne!(reading.next(), "new");
    }
    reading.expect(&["new"]);
}

#[test]
fn a_deleted_file_and_one_that_takes_its_place_are_both_read() {
    let logs = Logs::new();
    logs.append("access.log", "zero\n");
    let reading = logs.read("access.log", Begin::End);
    let mut old = OpenOptions::new()
        .append(true)
        .open(logs.path("access.log"))
        .unwrap();
    fs::remove_file(logs.path("access.log")).unwrap();
    writeln!(old, "one").unwrap();
    reading.expect(&["one"]);
    logs.append("access.log", "two\n");
    reading.expect(&["two"]);
    writeln!(old, "three").unwrap();
    reading.expect(&["three"]);
}

#[test]
fn new_files_that_match_are_read_and_what_a_link_leads_to_changes_with_it() {
    let logs = Logs::new();
    fs::create_dir(logs.path("real")).unwrap();
    logs.append("real/a", "a old\n");
    logs.append("real/b", "");
    symlink("real/a", logs.path("link.log")).unwrap();
    let reading = logs.read("*.log", Begin::End);
    logs.append("real/a", "a new\n");
    reading.expect(&["a new"]);
    logs.append("other.log", "other\n");
    reading.expect(&["other"]);
    logs.append("hidden.txt", "not asked for\n");
    logs.append(".hidden.log", "nor this\n");
    symlink("real/b", logs.path("new")).unwrap();
    fs::rename(logs.path("new"), logs.path("link.log")).unwrap();
    logs.append("real/b", "b\n");
    reading.expect(&["b"]);
    // Two names of one file are one file.
    symlink("real/b", logs.path("again.log")).unwrap();
    logs.append("real/b", "c\n");
    reading.expect(&["c"]);
    reading.expect_no_more();
}

#[test]
fn pipes_devices_and_folders_are_refused_without_waiting_for_anybody() {
    let logs = Logs::new();
    let pipe = logs.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    for (path, what) in [
        (&*pipe, "a pipe"),
        (Path::new("/dev/zero"), "a device"),
        (logs.folder.path(), "a folder"),
    ] {
        let source = SourceConfig {
            kind: Kind::Files(vec![path.display().to_string()]),
            ..logs.files("x", Begin::Start)
        };
        let reading = logs.start(vec![source]);
        let error = reading.status().error.unwrap();
        assert!(
            error.contains(what) && error.contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn a_long_line_is_cut_and_counted_and_zeros_are_bytes_like_others() {
    let logs = Logs::new();
    logs.append("access.log", "");
    let reading = logs.read("access.log", Begin::End);
    let long = "x".repeat(10 << 20);
    // In pieces, so that its end is searched for several times.
    logs.append("access.log", "before\n");
    for piece in [&long[..5_000_000], &long[5_000_000..], "\nafter\n\0a\0b\n"] {
        logs.append("access.log", piece);
    }
    reading.expect(&["before", &long[..MAX_LINE], "after", "\0a\0b"]);
    // The lengths at which something else happens.
    for length in [
        MAX_LINE - 1,
        MAX_LINE,
        MAX_LINE + 1,
        BUDGET / 2 - 1,
        BUDGET / 2,
        BUDGET / 2 + 1,
        BUDGET,
    ] {
        logs.append("access.log", &format!("{}\nz\n", &long[..length]));
        reading.expect(&[&long[..length.min(MAX_LINE)], "z"]);
    }
    let status = reading.wait_for(|status| status.lag == 0);
    assert_eq!(status.cut, 6);
    assert_eq!(status.bytes, status.files[0].size);
    assert_eq!(reading.stop(), [""; 0]);
}

#[test]
fn a_line_that_grows_byte_by_byte_is_one() {
    let logs = Logs::new();
    logs.append("access.log", "");
    let reading = logs.read("access.log", Begin::End);
    for byte in "slow\nand steady\n".chars() {
        logs.append("access.log", &byte.to_string());
        std::thread::sleep(Duration::from_millis(2));
    }
    reading.expect(&["slow", "and steady"]);
}

#[test]
fn a_busy_source_does_not_hold_up_another() {
    let logs = Logs::new();
    let line = format!("{}\n", "x".repeat(999));
    fs::write(logs.path("busy.log"), line.repeat(100_000)).unwrap();
    logs.append("quiet.log", "quiet\n");
    let busy = logs.files("busy.log", Begin::Start);
    let quiet = SourceConfig {
        name: "quiet".to_owned(),
        ..logs.files("quiet.log", Begin::Start)
    };
    let reading = logs.start(vec![busy, quiet]);
    let before = reading
        .lines
        .iter()
        .take_while(|(source, ..)| *source == 0)
        .count();
    assert!(before <= 2 * BUDGET / 1000, "{before} lines came before");
}

#[test]
fn each_of_many_lines_is_read_once_while_logs_are_rotated() {
    const LINES: usize = 200_000;
    for way in ["create", "copytruncate"] {
        let logs = Logs::new();
        logs.append("access.log", "");
        let reading = logs.read("access.log", Begin::End);
        let path = logs.path("access.log");
        let folder = logs.folder.path().to_owned();
        let read = Arc::new(AtomicUsize::new(0));
        let read_so_far = Arc::clone(&read);
        let writer = std::thread::spawn(move || {
            let open = || {
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(&path)
                    .unwrap()
            };
            let mut file = open();
            for batch in 0..20 {
                for number in 0..LINES / 20 {
                    // Unbuffered, and every other line in two pieces.
                    let text = format!("line {}\n", batch * LINES / 20 + number);
                    let (one, other) = text.split_at(if number % 2 == 0 { 3 } else { 0 });
                    file.write_all(one.as_bytes()).unwrap();
                    file.write_all(other.as_bytes()).unwrap();
                    if way == "create" && number == 5000 {
                        file = open();
                    }
                }
                let rotated = folder.join(format!("access.log.{batch}"));
                // A file that comes and goes between two looks is not seen.
                let deadline = Instant::now() + PATIENCE;
                while read_so_far.load(Ordering::Relaxed) < (batch + 1) * LINES / 20
                    && Instant::now() < deadline
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if way == "create" {
                    fs::rename(&path, rotated).unwrap();
                } else {
                    fs::copy(&path, rotated).unwrap();
                    file.set_len(0).unwrap();
                }
            }
        });
        let mut seen = vec![0; LINES];
        let deadline = Instant::now() + 3 * PATIENCE;
        for count in 0..LINES {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((_, text, _)) = reading.lines.recv_timeout(left) else {
                let missing: Vec<_> = seen
                    .iter()
                    .enumerate()
                    .filter(|(_, count)| **count == 0)
                    .collect();
                panic!(
                    "{way}: {count} lines; {} are missing, like {:?}",
                    missing.len(),
                    &missing[..4.min(missing.len())]
                );
            };
            let number: usize = text.strip_prefix("line ").unwrap().parse().unwrap();
            seen[number] += 1;
            read.store(count + 1, Ordering::Relaxed);
        }
        writer.join().unwrap();
        reading.expect_no_more();
        assert!(seen.iter().all(|count| *count == 1), "{way}");
    }
}

#[test]
fn a_line_is_handed_on_within_twenty_milliseconds() {
    let logs = Logs::new();
    logs.append("access.log", "");
    let reading = logs.read("access.log", Begin::End);
    let mut file = OpenOptions::new()
        .append(true)
        .open(logs.path("access.log"))
        .unwrap();
    let mut took: Vec<_> = (0..500)
        .map(|number| {
            let written = Instant::now();
            writeln!(file, "line {number}").unwrap();
            reading.next();
            let took = written.elapsed();
            std::thread::sleep(Duration::from_millis(2));
            took
        })
        .collect();
    took.sort();
    let (median, p99) = (took[250], took[495]);
    println!("from line written to line handed on: median {median:?}, p99 {p99:?}");
    assert!(p99 < Duration::from_millis(20), "{p99:?}");
}

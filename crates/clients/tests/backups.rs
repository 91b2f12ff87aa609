//! Changes are made all at once and taken back byte for byte.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

use clients::{Backups, Change, Undone};
use scratch::Scratch;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn backups(place: &Scratch) -> Backups {
    Backups::at(place.path("backups"))
}

fn change(path: &Path, old: &str, new: &str) -> Change {
    Change { path: path.to_owned(), old: old.to_owned(), new: new.to_owned() }
}

#[test]
fn several_changes_are_taken_back_in_turn() {
    let place = Scratch::new();
    let (a, b) = (place.write("a", "one"), place.write("b", "first"));
    backups(&place).apply(&[change(&a, "one", "two"), change(&b, "first", "second")]).unwrap();
    backups(&place).apply(&[change(&a, "two", "three")]).unwrap();
    assert_eq!((fs::read_to_string(&a).unwrap(), fs::read_to_string(&b).unwrap()), ("three".into(), "second".into()));
    let undone = backups(&place).undo().unwrap();
    assert_eq!(undone.iter().filter(|undone| matches!(undone, Undone::Restored(_))).count(), 3);
    assert_eq!((fs::read_to_string(&a).unwrap(), fs::read_to_string(&b).unwrap()), ("one".into(), "first".into()));
    assert_eq!(backups(&place).undo().unwrap(), []);
}

#[test]
fn a_link_stays_a_link_and_rights_stay_as_they_were() {
    let place = Scratch::new();
    let target = place.write("dotfile", "one");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
    let link = place.path("link");
    symlink(&target, &link).unwrap();
    backups(&place).apply(&[change(&link, "one", "two")]).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap(), "two");
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
    let kept = fs::read_dir(place.path("backups")).unwrap().next().unwrap().unwrap();
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(kept.path().join("0")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_somebody_else_has_changed_is_left_alone() {
    let place = Scratch::new();
    let file = place.write("a", "one");
    // Before the change…
    assert!(backups(&place).apply(&[change(&file, "something else", "two")]).is_err());
    assert_eq!(fs::read_to_string(&file).unwrap(), "one");
    // …and after it.
    backups(&place).apply(&[change(&file, "one", "two")]).unwrap();
    fs::write(&file, "three").unwrap();
    let undone = backups(&place).undo().unwrap();
    let Some(Undone::Changed { backup, .. }) = undone.first() else { panic!("{undone:?}") };
    assert_eq!(fs::read_to_string(backup).unwrap(), "one");
    assert_eq!(fs::read_to_string(&file).unwrap(), "three");
    // Put back as it was, it can be restored.
    fs::write(&file, "two").unwrap();
    assert!(backups(&place).undo().unwrap().contains(&Undone::Restored(file.canonicalize().unwrap())));
    assert_eq!(fs::read_to_string(&file).unwrap(), "one");
}

// SPDX-License-Identifier: Apache-2.0
//! `anionctl doctor`: executes the service's program, which knows the requirements of the service.

use crate::args::{DoctorArgs, Global};
use crate::failure::Failure;
use nix::unistd::{AccessFlags, access};
use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The service's program, relative to the folder of this one.
const SERVICE: &str = if cfg!(soong) { "hw/vendor.anion.allocator-service" } else { "aniond" };

/// Executes `aniond --doctor` with the same arguments in this process, which takes its output and
/// exit code. Returns only on failure.
pub(crate) fn become_it(args: &DoctorArgs, global: &Global) -> Failure {
    // Without /proc, only the name in the arguments shows the path of this program.
    let by_path = || env::args_os().next().map(PathBuf::from).filter(|name| name.components().count() > 1);
    let own = env::current_exe().ok().or_else(by_path);
    let beside = own.and_then(|own| own.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    let program = match find(beside.as_deref(), env::split_paths(&path)) {
        Ok(program) => program,
        Err(failure) => return failure,
    };
    let level = match global.verbose {
        0 => "off",
        1 => "warn",
        _ => "trace",
    };
    let mut command = Command::new(&program);
    command.args(["--doctor", "--log-level", level]).args(global.for_service());
    if let Some(file) = &args.config {
        command.arg("--config").arg(file);
    }
    if args.all {
        command.arg("--all");
    }
    if global.json {
        command.arg("--json");
    }
    let error = command.exec();
    Failure::Local(format!("cannot run {}: {error}", program.display()))
}

/// Returns the path of the service's program: in the folder `beside`, else in one of `others`.
///
/// # Errors
/// [`Failure::Local`] with the name of every folder if none contains it.
fn find(beside: Option<&Path>, others: impl Iterator<Item = PathBuf>) -> Result<PathBuf, Failure> {
    let mut folders: Vec<PathBuf> = beside.map(Path::to_owned).into_iter().collect();
    folders.extend(others.filter(|folder| !folder.as_os_str().is_empty()));
    let programs = folders.iter().map(|folder| folder.join(SERVICE));
    let mut found = programs.filter(|path| path.is_file() && access(path, AccessFlags::X_OK).is_ok());
    found.next().ok_or_else(|| {
        let places: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        Failure::Local(format!(
            "doctor is the service's own program, {SERVICE}, which is neither beside anionctl nor in PATH: \
             looked in {}",
            places.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_program_beside_comes_first_and_what_cannot_be_run_is_passed_over() {
        let (beside, path) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        let looked = || find(Some(beside.path()), [path.path().to_owned()].into_iter());
        let message = looked().expect_err("there is none").message().expect("text");
        for folder in [&beside, &path] {
            assert!(message.contains(&folder.path().display().to_string()), "{message}");
        }
        let put = |folder: &Path, mode| {
            let program = folder.join(SERVICE);
            fs::write(&program, "").expect("written");
            fs::set_permissions(&program, Permissions::from_mode(mode)).expect("set");
            program
        };
        put(beside.path(), 0o644);
        let second = put(path.path(), 0o755);
        assert_eq!(looked().expect("in the path"), second);
        let first = put(beside.path(), 0o755);
        assert_eq!(looked().expect("beside"), first);
    }
}

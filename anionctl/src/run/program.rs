// SPDX-License-Identifier: Apache-2.0
//! Finds the program, and checks whether a library can be preloaded.

use super::{CANNOT_RUN, NOT_FOUND, folders};
use crate::failure::Failure;
use crate::sys::has_capabilities;
use nix::unistd::{AccessFlags, access};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind, elf};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest chain of scripts that interpret scripts, as in the kernel.
const MAX_SCRIPTS: usize = 5;
/// Bytes of a script's first line that are read, as in the kernel.
const MAX_LINE: u64 = 256;
/// Bytes at the start of a program that are read; linkers put the headers there.
const MAX_HEADERS: u64 = 64 << 10;

fn refused(program: &Path, why: &str) -> Failure {
    Failure::Exec(format!("cannot run {}: {why}", program.display()), CANNOT_RUN)
}

/// Returns the path of the program: `name` if it has a slash, or else the first executable file of
/// that name in PATH.
///
/// # Errors
/// [`Failure::Exec`] as env(1): with 127 if there is none, with 126 if none can be executed.
pub(super) fn find(name: &OsStr) -> Result<PathBuf, Failure> {
    let candidates = match name.as_bytes().contains(&b'/') {
        true => vec![PathBuf::from(name)],
        false => folders().iter().map(|folder| folder.join(name)).collect(),
    };
    let is_executable = |path: &&PathBuf| path.is_file() && access(*path, AccessFlags::X_OK).is_ok();
    if let Some(path) = candidates.iter().find(is_executable) {
        return Ok(path.clone());
    }
    match candidates.iter().find(|path| path.exists()) {
        Some(path) if path.is_dir() => Err(refused(path, "it is a directory")),
        Some(path) => Err(refused(path, "permission denied")),
        None => {
            let text = format!("cannot run {}: no such program", Path::new(name).display());
            Err(Failure::Exec(text, NOT_FOUND))
        }
    }
}

/// The machine that a file is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    number: u16,
    is_64: bool,
    endianness: Endianness,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.is_64 { 64 } else { 32 };
        match self.number {
            elf::EM_386 | elf::EM_X86_64 => write!(f, "x86 with {bits} bits"),
            elf::EM_ARM | elf::EM_AARCH64 => write!(f, "ARM with {bits} bits"),
            number => write!(f, "machine {number} of ELF with {bits} bits"),
        }
    }
}

/// The facts of a program or library that matter to the loader.
#[derive(Debug)]
struct Binary {
    machine: Machine,
    /// It names a loader, which reads `LD_PRELOAD`.
    has_loader: bool,
}

/// Checks that the loader will preload the library into the program; for a script, into its
/// interpreter.
///
/// # Errors
/// [`Failure::Exec`] with 126 and the reason if not.
pub(super) fn examine(program: &Path, library: &Path) -> Result<(), Failure> {
    let program = read_by(program)?;
    check_rights(&program, "and the loader ignores LD_PRELOAD for it")?;
    // The kernel refuses files that are no programs.
    let Some(binary) = read(&program)? else { return Ok(()) };
    let library_binary = read(library)?
        .ok_or_else(|| Failure::Local(format!("{} is no library of this format", library.display())))?;
    if binary.machine != library_binary.machine {
        let why = format!("it is for {}, but the library for {}", binary.machine, library_binary.machine);
        return Err(refused(&program, &why));
    }
    if !binary.has_loader {
        let why = "it is linked statically, so no library can be put before its own; \
                   run --trap serves such programs";
        return Err(refused(&program, why));
    }
    Ok(())
}

/// Checks that a filter will trap the program's system calls and change nothing else; for a script,
/// those of its interpreter.
///
/// # Errors
/// [`Failure::Exec`] with 126 and the reason if not.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn examine_for_trap(program: &Path) -> Result<(), Failure> {
    let program = read_by(program)?;
    check_rights(&program, "and no program gains rights while its system calls are trapped")?;
    let (Some(binary), Some(own)) = (read(&program)?, read(Path::new("/proc/self/exe"))?) else {
        return Ok(());
    };
    if binary.machine != own.machine {
        let why =
            format!("it is for {}; system calls are trapped of programs for {}", binary.machine, own.machine);
        return Err(refused(&program, &why));
    }
    Ok(())
}

/// Returns the path of the program itself, or of its interpreter if it is a script.
fn read_by(program: &Path) -> Result<PathBuf, Failure> {
    let mut program = program.to_owned();
    for _ in 0..MAX_SCRIPTS {
        match interpreter(&program)? {
            Some(interpreter) => program = interpreter,
            None => break,
        }
    }
    Ok(program)
}

/// Checks that the program has no rights that its user lacks. `consequence` is the effect of such
/// rights.
fn check_rights(program: &Path, consequence: &str) -> Result<(), Failure> {
    let status = program.metadata().map_err(|error| refused(program, &error.to_string()))?;
    let rights = if status.mode() & libc::S_ISUID != 0 {
        "it is setuid"
    } else if status.mode() & libc::S_ISGID != 0 {
        "it is setgid"
    } else if has_capabilities(program) {
        "it has file capabilities"
    } else {
        return Ok(());
    };
    Err(refused(program, &format!("{rights}, {consequence}")))
}

/// Returns the interpreter of a script; `None` if the file is no script.
fn interpreter(program: &Path) -> Result<Option<PathBuf>, Failure> {
    let mut line = Vec::new();
    let file = File::open(program);
    // An executable file that cannot be read is not examined further.
    let Ok(file) = file else { return Ok(None) };
    file.take(MAX_LINE).read_to_end(&mut line).map_err(|error| refused(program, &error.to_string()))?;
    let Some(line) = line.strip_prefix(b"#!") else { return Ok(None) };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
    let word = line.split(|byte| b" \t".contains(byte)).next().unwrap_or_default();
    let interpreter = PathBuf::from(OsStr::from_bytes(word));
    if !interpreter.exists() {
        return Err(refused(program, &format!("its interpreter {} does not exist", interpreter.display())));
    }
    Ok(Some(interpreter))
}

/// Reads the headers of a file; `None` if its format is unknown to the loader, or it cannot be
/// read.
fn read(path: &Path) -> Result<Option<Binary>, Failure> {
    let mut bytes = Vec::new();
    let Ok(file) = File::open(path) else { return Ok(None) };
    file.take(MAX_HEADERS).read_to_end(&mut bytes).map_err(|error| refused(path, &error.to_string()))?;
    let binary = match FileKind::parse(bytes.as_slice()) {
        Ok(FileKind::Elf32) => binary::<elf::FileHeader32<Endianness>>(&bytes),
        Ok(FileKind::Elf64) => binary::<elf::FileHeader64<Endianness>>(&bytes),
        _ => return Ok(None),
    };
    binary.map(Some).map_err(|error| refused(path, &error.to_string()))
}

fn binary<E: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> object::Result<Binary> {
    let header = E::parse(bytes)?;
    let endianness = header.endian()?;
    let mut segments = header.program_headers(endianness, bytes)?.iter();
    Ok(Binary {
        machine: Machine { number: header.e_machine(endianness), is_64: header.is_type_64(), endianness },
        has_loader: segments.any(|segment| segment.p_type(endianness) == elf::PT_INTERP),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn put(folder: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
        path
    }

    fn why(result: Result<(), Failure>) -> String {
        let failure = result.expect_err("refused");
        assert_eq!(failure.exit_code(), CANNOT_RUN);
        failure.message().expect("a reason")
    }

    /// Returns the start of a program for this machine, with or without a loader.
    fn program(has_loader: bool) -> Vec<u8> {
        let own = fs::read("/proc/self/exe").expect("readable");
        let mut bytes = own[..4096].to_vec();
        if !has_loader {
            // The number of program headers of a 64-bit file.
            bytes[56..58].fill(0);
        }
        bytes
    }

    #[test]
    fn a_program_that_ignores_preloading_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name, content: &[u8], mode| put(folder.path(), name, content, mode);
        let library = put("library", &program(true), 0o644);
        let examine = |program: &Path| examine(program, &library);
        examine(&put("fine", &program(true), 0o755)).expect("a program");
        assert!(why(examine(&put("setuid", &program(true), 0o4755))).contains("setuid"));
        assert!(why(examine(&put("setgid", &program(true), 0o2755))).contains("setgid"));
        assert!(why(examine(&put("static", &program(false), 0o755))).contains("linked statically"));
        let mut other = program(true);
        other[18..20].copy_from_slice(&elf::EM_S390.to_le_bytes());
        assert!(why(examine(&put("other", &other, 0o755))).contains("machine 22 of ELF"));
        // A script is judged by its interpreter.
        let setuid = folder.path().join("setuid");
        let script = put("script", format!("#! {} -x\n", setuid.display()).as_bytes(), 0o755);
        assert!(why(examine(&script)).contains("setuid"));
        assert!(why(examine(&put("bare", b"#!/no/such/reader\n", 0o755))).contains("/no/such/reader"));
        // The kernel reports the error.
        examine(&put("text", b"no program", 0o755)).expect("nothing to say against it");
    }

    #[test]
    fn missing_and_unexecutable_programs_have_the_exit_codes_of_env() {
        let folder = tempfile::tempdir().expect("a folder");
        let code = |path: &Path| find(path.as_os_str()).expect_err("none").exit_code();
        assert_eq!(code(&folder.path().join("absent")), NOT_FOUND);
        assert_eq!(code(Path::new("no-program-has-this-name")), NOT_FOUND);
        assert_eq!(code(&put(folder.path(), "text", b"", 0o644)), CANNOT_RUN);
        assert_eq!(code(folder.path()), CANNOT_RUN);
        assert!(find(OsStr::new("sh")).expect("in PATH").is_absolute());
    }
}

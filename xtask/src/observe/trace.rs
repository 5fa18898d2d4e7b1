// SPDX-License-Identifier: Apache-2.0
//! Traces a service, and folds the traces.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::policy::Policy;
use super::review::{Form, restricted};

/// Starts a service under `strace`, and folds its traces while they are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tracer<'a> {
    /// The service.
    pub(crate) service: &'a Path,
    /// This program.
    pub(crate) fold: &'a Path,
    /// The directory for the folded traces. Every user must be able to write there.
    pub(crate) traces: &'a Path,
}

impl Tracer<'_> {
    /// Returns a script that replaces the service's program, with the same arguments.
    ///
    /// The service keeps the script's process id and parent. The tracer has no parent here, and a
    /// process group of its own. When the service installs its filter, the tracer answers the call
    /// instead. So the trace shows where the filter begins, and calls that the filter would stop
    /// continue. Calls that the filter would answer with an error get that error. The process that
    /// folds the trace stays in the service's process group, and must not end when that group is
    /// signalled.
    pub(crate) fn script(&self) -> String {
        let [service, fold, traces] = [self.service, self.fold, self.traces].map(|path| path.display());
        format!(
            "#!/bin/sh\n\
             trace={traces}/$$\n\
             : >\"$trace.running\" || exit\n\
             exec strace -DD -f -q -e raw=all -e signal=none -e inject=seccomp:retval=0 -e inject=clone3:error=ENOSYS \
             -o \"|trap '' TERM; exec {fold} fold $trace\" -- {service} \"$@\"\n"
        )
    }
}

/// Folds the lines of `strace` with raw arguments to the calls after the last request for the
/// filter; `None` if there was none. Keeps only the arguments that the policy restricts. The
/// process that the service starts earlier, to resolve names, has no filter and does not count.
///
/// # Errors
/// If a line does not have the form of strace.
pub(super) fn fold(
    lines: impl IntoIterator<Item = std::io::Result<String>>,
    policy: &Policy,
) -> Result<Option<BTreeSet<Form>>> {
    let mut forms = None;
    // By their numbers: the first process to execute a program is the service.
    let mut processes: Vec<String> = Vec::new();
    for line in lines {
        let line = line.context("cannot read the trace")?;
        let call =
            Call::of_line(&line).with_context(|| format!("cannot parse the line {line:?} of the trace"))?;
        let process = line.split_whitespace().next().unwrap_or_default();
        if call.as_ref().is_some_and(|call| call.name == "execve")
            && processes.iter().all(|one| one != process)
        {
            processes.push(process.to_owned());
        }
        if processes.iter().skip(1).any(|other| other == process) {
            continue;
        }
        match (call, &mut forms) {
            (Some(call), _) if call.is_filter() => forms = Some(BTreeSet::new()),
            (Some(call), Some(forms)) => {
                forms.insert(
                    call.form(policy)
                        .with_context(|| format!("cannot parse the line {line:?} of the trace"))?,
                );
            }
            _ => {}
        }
    }
    Ok(forms)
}

/// Folds all calls in the lines of `strace` with raw arguments. Keeps only the arguments that the
/// policy restricts.
///
/// # Errors
/// If a line is not of strace.
pub(super) fn forms(
    lines: impl IntoIterator<Item = std::io::Result<String>>,
    policy: &Policy,
) -> Result<BTreeSet<Form>> {
    let form = |line: std::io::Result<String>| {
        let line = line.context("cannot read the trace")?;
        let call = Call::of_line(&line).and_then(|call| call.map(|call| call.form(policy)).transpose());
        call.with_context(|| format!("not understood: {line:?}"))
    };
    lines.into_iter().filter_map(|line| form(line).transpose()).collect()
}

/// The entry of a system call.
#[derive(Debug, PartialEq, Eq)]
struct Call<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
}

impl<'a> Call<'a> {
    /// Parses a line of the form `PID NAME(ARGUMENTS) = RESULT`, or one that ends in `<unfinished
    /// ...>`. `None` for lines on the rest of an unfinished call, a signal, or an end, and for
    /// `???`: a process that was killed before the tracer could read its call.
    fn of_line(line: &'a str) -> Result<Option<Self>> {
        let text = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        if ["<... ", "--- ", "+++ ", "???("].iter().any(|other| text.starts_with(other)) {
            return Ok(None);
        }
        let (name, rest) = text.split_once('(').context("the line contains no system call")?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            bail!("{name:?} is not the name of a system call");
        }
        let end = rest.find([')', '<']).context("the list of arguments has no end")?;
        let arguments = rest[..end].split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        Ok(Some(Self { name, arguments }))
    }

    /// Returns whether it sets a filter: SECCOMP_SET_MODE_FILTER.
    fn is_filter(&self) -> bool {
        self.name == "seccomp" && self.arguments.first() == Some(&"0x1")
    }

    fn form(&self, policy: &Policy) -> Result<Form> {
        let argument = |number: u8| Ok((number, lower_bits(self.arguments.get(usize::from(number)))?));
        let arguments = restricted(policy, self.name).into_iter().map(argument);
        Ok(Form { call: self.name.to_owned(), arguments: arguments.collect::<Result<BTreeMap<_, _>>>()? })
    }
}

/// Returns the part of an argument that a filter sees.
fn lower_bits(argument: Option<&&str>) -> Result<u32> {
    let word = argument.context("an argument is missing")?;
    let value = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    let value = value.with_context(|| format!("the argument {word:?} is no number"))?;
    Ok(u32::try_from(value & u64::from(u32::MAX))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "fcntl: arg1 == F_GETFD\nread: 1\nmmap: arg2 in ~PROT_EXEC\nclone3: return ENOSYS\n";

    fn folded(trace: &str) -> Result<Option<Vec<String>>> {
        let policy = Policy::parse(POLICY).expect("sound");
        let forms = fold(trace.lines().map(|line| Ok(line.to_owned())), &policy)?;
        Ok(forms.map(|forms| forms.iter().map(Form::to_string).collect()))
    }

    #[test]
    fn calls_before_the_last_filter_do_not_count() {
        let trace = "\
            17 execve(0x7ffe, 0x7ffe, 0x7ffe) = 0\n\
            17 seccomp(0x3, 0, 0x7ffe) = 0 (INJECTED)\n\
            17 openat(0xffffff9c, 0x7ffe, 0, 0) = 0x3\n\
            17 seccomp(0x1, 0x1, 0x7ffe) = 0 (INJECTED)\n\
            17 write(0x2, 0x7ffe, 0x3) = 0x3\n\
            17 seccomp(0x1, 0x1, 0x7ffe) = 0 (INJECTED)\n\
            17 read(0x3, 0x7ffe, 0x400) = 0\n";
        assert_eq!(folded(trace).expect("sound"), Some(vec!["read".to_owned()]));
        assert_eq!(folded("17 read(0x3, 0x7ffe, 0x400) = 0\n").expect("sound"), None);
    }

    #[test]
    fn calls_of_the_process_that_looks_names_up_do_not_count() {
        let trace = "\
            17 execve(0x7ffe, 0x7ffe, 0x7ffe) = 0\n\
            18 execve(0x7ffe, 0x7ffe, 0x7ffe) = 0\n\
            17 seccomp(0x1, 0x1, 0x7ffe) = 0 (INJECTED)\n\
            18 openat(0xffffff9c, 0x7ffe, 0, 0) = 0x3\n\
            19 read(0x3, 0x7ffe, 0x400) = 0\n";
        assert_eq!(folded(trace).expect("sound"), Some(vec!["read".to_owned()]));
    }

    #[test]
    fn calls_are_folded_to_what_the_policy_looks_at() {
        let trace = "\
            17 seccomp(0x1, 0x1, 0x7ffe) = 0\n\
            17 fcntl(0x3, 0x409, 0x3 <unfinished ...>\n\
            18 fcntl(0x4, 0x409, 0x5) = 0x6\n\
            17 <... fcntl resumed>) = 0x4\n\
            18 mmap(0, 0x1000, 0xffffffff00000003, 0x22, 0xffffffff, 0) = 0x7f00\n\
            18 restart_syscall(<... resuming interrupted futex ...>) = 0\n\
            18 --- SIGTERM {si_signo=SIGTERM} ---\n\
            18 exit_group(0) = ?\n\
            19 ???( <unfinished ...>\n\
            19 +++ killed by SIGKILL +++\n\
            18 +++ exited with 0 +++\n";
        let expected = ["exit_group", "fcntl arg1=0x409", "mmap arg2=0x3", "restart_syscall"];
        assert_eq!(folded(trace).expect("sound"), Some(expected.map(str::to_owned).into()));
    }

    #[test]
    fn all_calls_of_a_device_trace_count() {
        let policy = Policy::parse(POLICY).expect("sound");
        let trace = "17 read(0x3, 0x7ffe, 0x400) = 0\n17 --- SIGCHLD {} ---\n18 getpriority(0, 0) = 0x14\n";
        let forms = forms(trace.lines().map(|line| Ok(line.to_owned())), &policy).expect("sound");
        assert_eq!(forms.iter().map(Form::to_string).collect::<Vec<_>>(), ["getpriority", "read"]);
    }

    #[test]
    fn a_line_that_cannot_be_parsed_is_an_error() {
        let after = |line: &str| folded(&format!("17 seccomp(0x1, 0, 0) = 0\n{line}\n"));
        for line in
            ["17 fcntl(0x3) = 0", "17 fcntl(0x3, F_GETFD) = 0", "17 read(0x3", "nothing", "17 (0x3) = 0"]
        {
            let error = after(line).expect_err("not strace's");
            assert!(format!("{error:#}").contains(line), "{error:#}");
        }
    }

    #[test]
    fn the_tracer_answers_all_that_the_filter_would_answer_with_an_error() {
        let policy = Policy::parse(super::super::POLICY).expect("sound");
        let path = Path::new("/x");
        let script = Tracer { service: path, fold: path, traces: path }.script();
        for (call, error) in &policy.refused {
            assert_eq!(*error, libc::ENOSYS);
            assert!(script.contains(&format!("-e inject={call}:error=ENOSYS ")), "{script}");
        }
    }
}

//! Ends a program with us, however we end.
//!
//! ```text
//! dev ──pipe──▶ guard: a shell that waits for the pipe's end      dev is killed ─▶ the pipe ends ─▶ TERM, then KILL, to the group
//! ```

use std::process::Stdio;

use rustix::process::Pid;
use tokio::process::{Child, Command};

/// TERM to the group, and KILL when it has not ended five seconds later.
const SCRIPT: &str = r#"read -r _
kill -TERM -- "-$1" 2>/dev/null || exit 0
left=50
while [ "$left" -gt 0 ] && kill -0 -- "-$1" 2>/dev/null; do
    sleep 0.1
    left=$((left - 1))
done
kill -KILL -- "-$1" 2>/dev/null
exit 0
"#;

/// Guards a process group until it is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    /// Holds our end of the pipe; killed when dropped.
    _shell: Child,
}

impl Guard {
    /// Guards `group` from now on.
    ///
    /// # Errors
    /// When the shell cannot be started.
    pub(super) fn start(group: Pid) -> std::io::Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "guard", &group.as_raw_nonzero().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What a terminal sends to us is not for it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { _shell: shell })
    }
}

//! One way of one connection: what is taken at one end is given at the other, later if the network is slow.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::network::Link;

/// Parcels of up to 64 KiB on their way: 64 MiB, more than fast networks hold.
pub(super) const PARCELS: usize = 1_024;

/// What is on its way.
pub(super) enum Parcel {
    /// Bytes, to be given at some time.
    Bytes(Option<Instant>, Vec<u8>),
    /// The sender will send no more.
    End(Option<Instant>),
}

/// Gives what comes by the line, when it is due, until the sender has ended.
pub(super) async fn give(
    mut line: mpsc::Receiver<Parcel>,
    to: &mut (impl AsyncWrite + Unpin),
    link: &Link,
) -> std::io::Result<()> {
    let mut timer = None;
    while let Some(parcel) = line.recv().await {
        let (Parcel::Bytes(due, _) | Parcel::End(due)) = &parcel;
        if let Some(due) = due {
            wait(&mut timer, *due).await?;
        }
        if link.is_silent() {
            continue;
        }
        match parcel {
            Parcel::Bytes(_, bytes) => to.write_all(&bytes).await?,
            Parcel::End(_) => return to.shutdown().await,
        }
    }
    Ok(())
}

/// Waits until `due`, to some microseconds.
async fn wait(timer: &mut Option<AsyncFd<OwnedFd>>, due: Instant) -> std::io::Result<()> {
    let left = due.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(());
    }
    let timer = if let Some(timer) = timer {
        timer
    } else {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let made = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "it owns the descriptor, as is asked for; what is to replace it is unsafe"
        )]
        timer.insert(AsyncFd::new(made)?)
    };
    let once = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() },
    };
    timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
    loop {
        let mut ready = timer.readable().await?;
        let mut expired = [0; 8];
        if ready
            .try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expired)?))
            .is_ok_and(|read| read.is_ok())
        {
            return Ok(());
        }
    }
}

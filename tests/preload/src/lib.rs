//! Power loss, for processes on a real file system.
//!
//! The page cache survives a SIGKILL, so a killed process loses nothing that it wrote; a machine that loses its power
//! does. A process that runs under `LD_PRELOAD=libpreload.so` keeps a log of how to undo what it does to the files
//! below one folder, and notes there what it synced. When it was killed, `lose-power` undoes, by a seed, some or all
//! of what no sync covered: writes are lost, or torn at a sector, one by one; the names of files from some point on,
//! because file systems journal those in order.
//!
//! ```text
//!   pwrite ──► Undo { file, offset, what stood there }  ──► the file
//!   fdatasync ──► Synced { file, everything in the log before the call }
//!   open(O_CREAT), rename, unlink ──► Name { … }        ──► the folder       fsync of a folder ──► Folder { … }
//! ```
//!
//! `PRELOAD_FOLDER` names the folder, `PRELOAD_LOG` the log. With `PRELOAD_LIES=1` syncs say that they are done and do
//! nothing: the planted bug. What is written through a mapping, by io_uring or by a child of another language's own
//! system calls is not seen.

pub mod log;
pub mod rollback;

mod calls;

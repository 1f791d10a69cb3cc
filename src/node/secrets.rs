//! The secret that members and clients of one user share on one machine.
//!
//! On loopback every user of the machine can reach a member's port. So that only its own user's processes are let in,
//! they prove a secret, which lies in a file that only that user can read: `coterie/NAME.secret`, for the cluster of that
//! name, below `$XDG_STATE_HOME` or else `~/.local/state`. Whoever comes first makes it. It is not in a
//! member's `data_dir`, because members have different ones and clients have none.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::folder::hexadecimal;
use ring::rand::{SecureRandom, SystemRandom};

const BYTES: usize = 32;

/// Why there is no such secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no folder of the user's own.
    #[error("neither XDG_STATE_HOME nor HOME is set, so there is no place for one; give `secret`")]
    Homeless,
    /// Others can read or write it.
    #[error("{} can be read by other users; remove it, or set its mode to 0600", .0.display())]
    Exposed(PathBuf),
    /// The file cannot be made or read.
    #[error("{}: {error}; give `secret`", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The secret of this user's cluster of that name; made, if there is none.
pub fn of_this_user(cluster: &str) -> Result<Vec<u8>, SecretError> {
    let file = file_of(cluster)?;
    in_file(&file).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied if file.exists() => SecretError::Exposed(file.clone()),
        _ => SecretError::Unusable { path: file.clone(), error },
    })
}

/// Where it is.
pub fn file_of(cluster: &str) -> Result<PathBuf, SecretError> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    // A name may have characters that a file's name must not.
    let plain = cluster.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let plain = plain && !cluster.starts_with('.');
    let name = if plain { cluster.to_owned() } else { format!("={}", hexadecimal(cluster.as_bytes())) };
    Ok(state.ok_or(SecretError::Homeless)?.join("coterie").join(format!("{name}.secret")))
}

/// The secret in this file; made, if there is none.
pub fn in_file(path: &Path) -> io::Result<Vec<u8>> {
    match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    // Written beside and linked, so that nobody ever reads half of it, and of two who come at once one wins.
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&beside);
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(hexadecimal(&bytes).as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&beside, path);
    let _ = fs::remove_file(&beside);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read(path),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let exposed = fs::metadata(path)?.mode() & 0o077 != 0;
    if exposed {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(fs::read(path)?.trim_ascii().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn all_who_come_find_the_same_and_nobody_else_can_read_it() {
        let folder = env::temp_dir().join(format!("coterie-secret-{}", std::process::id()));
        let path = folder.join("coterie").join("ours.secret");
        let made = in_file(&path).expect("a secret");
        assert_eq!(made.len(), 2 * BYTES);
        assert_eq!(in_file(&path).expect("the same"), made);
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("allowed");
        assert_eq!(in_file(&path).expect_err("exposed").kind(), io::ErrorKind::PermissionDenied);
        fs::remove_dir_all(&folder).expect("removed");
    }
}

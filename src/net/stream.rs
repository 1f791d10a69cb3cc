//! A connection, with or without TLS, and the frames that come on it.

use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::tls::TlsStream;
use super::{Counters, Tls};
use crate::wire::frame::{self, BadFrame, Frame};

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted, both ends known by their certificates.
    Tls(Box<TlsStream>),
}

/// The half on which bytes come.
pub type Receiving = Box<dyn AsyncRead + Send + Unpin>;
/// The half on which bytes leave.
pub type Sending = Box<dyn AsyncWrite + Send + Unpin>;

/// How long the other end's machine may leave bytes unacknowledged before it counts as gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);

/// Dials.
pub async fn connect(address: &str, tls: Option<&Tls>) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    prepare(&stream)?;
    match tls {
        None => Ok(Stream::Plain(stream)),
        Some(tls) => Ok(Stream::Tls(Box::new(tls.connect(address, stream).await?))),
    }
}

/// Sets up a new connection: what is written leaves at once, and a machine that is gone is noticed.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    set_user_timeout(stream, UNACKNOWLEDGED_MAX);
    Ok(())
}

/// Only helps; who cannot have it does without.
#[cfg(target_os = "linux")]
fn set_user_timeout(stream: &TcpStream, patience: Duration) {
    use std::os::fd::AsRawFd;
    let milliseconds = patience.as_millis() as libc::c_uint;
    // SAFETY: the descriptor is open, and the option is an unsigned integer of this size.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_USER_TIMEOUT,
            (&raw const milliseconds).cast(),
            size_of::<libc::c_uint>() as libc::socklen_t,
        );
    }
}

#[cfg(not(target_os = "linux"))]
const fn set_user_timeout(_stream: &TcpStream, _patience: Duration) {}

impl Stream {
    /// Its two halves.
    pub fn split(self) -> (Receiving, Sending) {
        match self {
            Self::Plain(stream) => {
                let (receiving, sending) = stream.into_split();
                (Box::new(receiving), Box::new(sending))
            }
            Self::Tls(stream) => {
                let (receiving, sending) = tokio::io::split(stream);
                (Box::new(receiving), Box::new(sending))
            }
        }
    }

    /// The connection underneath.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Takes frames off a connection.
pub struct Frames<R> {
    receiving: R,
    buffer: BytesMut,
    payload_max: usize,
    version: u16,
}

/// Why no more frames come.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The connection is over.
    #[error("the connection has ended")]
    Closed,
    /// The network says so.
    #[error(transparent)]
    Network(#[from] io::Error),
    /// What came is no frame of ours.
    #[error(transparent)]
    Bad(#[from] BadFrame),
    /// Nothing came for too long.
    #[error("nothing came any more")]
    Silent,
}

/// How much is read at once.
const READ_MIN: usize = 64 << 10;

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Frames with so large payloads at most, of the version that was agreed on.
    pub fn new(receiving: R, payload_max: usize, version: u16) -> Self {
        Self { receiving, buffer: BytesMut::with_capacity(READ_MIN), payload_max, version }
    }

    /// The next frame of those that are whole already.
    pub fn take(&mut self) -> Result<Option<Frame>, BadFrame> {
        let taken = frame::take(&mut self.buffer, self.payload_max)?;
        match taken {
            Some(Frame { version: found, .. }) if found != self.version => {
                Err(BadFrame::NotAgreed { found, agreed: self.version })
            }
            taken => Ok(taken),
        }
    }

    /// Waits until more bytes have come, but not longer than this.
    pub async fn fill(&mut self, silence_max: Duration, counters: &Counters) -> Result<(), End> {
        if self.buffer.capacity() - self.buffer.len() < READ_MIN / 4 {
            self.buffer.reserve(READ_MIN);
        }
        let read = self.receiving.read_buf(&mut self.buffer);
        let count = tokio::time::timeout(silence_max, read).await.map_err(|_| End::Silent)??;
        Counters::add(&counters.bytes_received, count);
        if count == 0 { Err(End::Closed) } else { Ok(()) }
    }
}

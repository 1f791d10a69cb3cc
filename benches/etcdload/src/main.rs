//! `etcdload WORK ENDPOINT[,ENDPOINT…] CLIENTS SECONDS [BYTES]`: what CLIENTS do for SECONDS, as one line of JSON.
//!
//! - `put`, `get`: of a value of BYTES; reads are linearizable;
//! - `lock`: each client takes and leaves a lock of its own;
//! - `handover`: all clients take turns with one lock;
//! - `gap`: one client after the other endpoint, 50 ms patience: the longest time without a write.

use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

/// The messages of etcd's interface, as far as they are needed (`etcd-io/etcd: api/etcdserverpb/rpc.proto`).
mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Put {
        #[prost(bytes = "vec", tag = "1")]
        pub(crate) key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(crate) value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Key {
        #[prost(bytes = "vec", tag = "1")]
        pub(crate) key: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Grant {
        #[prost(int64, tag = "1")]
        pub(crate) ttl: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Granted {
        #[prost(int64, tag = "2")]
        pub(crate) id: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Lock {
        #[prost(bytes = "vec", tag = "1")]
        pub(crate) name: Vec<u8>,
        #[prost(int64, tag = "2")]
        pub(crate) lease: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Locked {
        #[prost(bytes = "vec", tag = "2")]
        pub(crate) key: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Nothing {}
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct Client(tonic::client::Grpc<Channel>);

impl Client {
    fn new(endpoint: &str) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?.tcp_nodelay(true);
        Ok(Self(tonic::client::Grpc::new(endpoint.connect_lazy())))
    }

    async fn call<Q, A>(&mut self, path: &'static str, question: Q) -> Result<A, Failure>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await?;
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        Ok(self.0.unary(tonic::Request::new(question), path, codec).await?.into_inner())
    }

    async fn put(&mut self, key: &str, bytes: usize) -> Result<(), Failure> {
        let put = wire::Put { key: key.into(), value: vec![b'x'; bytes] };
        self.call::<_, wire::Nothing>("/etcdserverpb.KV/Put", put).await.map(drop)
    }

    async fn get(&mut self, key: &str) -> Result<(), Failure> {
        let key = wire::Key { key: key.into() };
        self.call::<_, wire::Nothing>("/etcdserverpb.KV/Range", key).await.map(drop)
    }

    async fn grant(&mut self) -> Result<i64, Failure> {
        let granted: wire::Granted =
            self.call("/etcdserverpb.Lease/LeaseGrant", wire::Grant { ttl: 600 }).await?;
        Ok(granted.id)
    }

    async fn lock(&mut self, name: &str, lease: i64) -> Result<(), Failure> {
        let lock = wire::Lock { name: name.into(), lease };
        let locked: wire::Locked = self.call("/v3lockpb.Lock/Lock", lock).await?;
        self.call::<_, wire::Nothing>("/v3lockpb.Lock/Unlock", wire::Key { key: locked.key }).await.map(drop)
    }
}

/// What one client did: how long each took, in nanoseconds.
async fn work(
    work: String,
    mut client: Client,
    number: usize,
    until: Instant,
    bytes: usize,
) -> Result<Vec<u64>, Failure> {
    let mut took = Vec::new();
    let lease = if matches!(work.as_str(), "lock" | "handover") { client.grant().await? } else { 0 };
    let lock = if work == "lock" { format!("lock-{number}") } else { "lock".to_owned() };
    while Instant::now() < until {
        let begun = Instant::now();
        let key = format!("key-{number}-{}", took.len() % 100);
        match work.as_str() {
            "put" => client.put(&key, bytes).await?,
            "get" => client.get("key-0-0").await?,
            _ => client.lock(&lock, lease).await?,
        }
        took.push(begun.elapsed().as_nanos() as u64);
    }
    Ok(took)
}

/// Writes at one endpoint after the other, and says how long none was acknowledged, at most.
async fn gap(mut clients: Vec<Client>, until: Instant) -> Duration {
    let (mut at, mut last, mut longest) = (0, Instant::now(), Duration::ZERO);
    while Instant::now() < until {
        let count = clients.len();
        let written =
            tokio::time::timeout(Duration::from_millis(50), clients[at % count].put("gap", 16)).await;
        if matches!(written, Ok(Ok(()))) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        } else {
            at += 1;
        }
    }
    longest
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, endpoints, count, seconds, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: etcdload put|get|lock|handover|gap ENDPOINT[,ENDPOINT…] CLIENTS SECONDS [BYTES]");
        std::process::exit(2);
    };
    let endpoints: Vec<&str> = endpoints.split(',').collect();
    let (count, seconds): (usize, f64) = (count.parse()?, seconds.parse()?);
    let bytes = rest.first().map_or(Ok(256), |bytes| bytes.parse())?;
    // HTTP/2 shares a connection well up to some 16 clients.
    let channels = count.div_ceil(16).max(endpoints.len());
    let clients = (0..channels)
        .map(|at| Client::new(endpoints[at % endpoints.len()]))
        .collect::<Result<Vec<_>, _>>()?;
    if kind == "gap" {
        let longest = gap(clients, Instant::now() + Duration::from_secs_f64(seconds)).await;
        println!("{{\"gap_ms\": {:.2}}}", longest.as_secs_f64() * 1e3);
        return Ok(());
    }
    clients[0].clone().put("key-0-0", bytes).await?;
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(seconds);
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            tokio::spawn(work(kind.clone(), clients[number % channels].clone(), number, until, bytes))
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let part =
        |share: f64| took.get((took.len() as f64 * share) as usize).map_or(0.0, |&nanos| nanos as f64 / 1e6);
    println!("{{\"rate\": {rate:.1}, \"p50_ms\": {:.4}, \"p99_ms\": {:.4}}}", part(0.5), part(0.99));
    Ok(())
}

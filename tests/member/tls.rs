//! TLS both ways: certificates of one authority let in, and nothing else does.

use crate::client::{hello, refused};
use crate::group::{Group, eventually, get, put};
use coterie::net::{Authority, Pem, Tls, connect, dial_in};
use coterie::node::{Certificates, Config, Member, SecretSource, StartError};
use coterie::replica::Consistency;
use coterie::wire::VERSION;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

fn certificates(authority: &Authority, names: &[&str]) -> Certificates {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let issued = authority.issue(&names).expect("a certificate");
    let pem = |text: &str| Pem::Bytes(text.as_bytes().to_vec());
    Certificates {
        certificate: pem(&issued.certificate),
        key: pem(&issued.key),
        authority: pem(authority.certificate()),
    }
}

fn encrypted(authority: &Authority) -> Group {
    let mut group = Group::prepare(3);
    let own = certificates(authority, &["127.0.0.1"]);
    group.change = Box::new(move |config: &mut Config| {
        config.tls = Some(own.clone());
        config.secret = SecretSource::None;
    });
    group.start_all();
    group
}

/// How a client fares with these certificates.
fn dial(address: &str, certificates: &Certificates) -> Result<String, String> {
    let tls: Tls = certificates.load().expect("certificates");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut stream = connect(address, Some(&tls)).await.map_err(|error| error.to_string())?;
        let hello = dial_in(&mut stream, &hello("coterie"), VERSION, None).await;
        let hello = hello.map_err(|error| error.to_string())?.hello;
        Ok(hello.name)
    })
}

#[test]
fn certificates_of_one_authority_let_members_and_clients_in_and_no_others() {
    let authority = Authority::new().expect("an authority");
    let group = encrypted(&authority);
    let leader = group.leader();
    let member = &group.members[&leader];
    put(member, "x", "1").expect("written");
    let found = get(&group.members[&group.follower()], "x", Consistency::Linearizable);
    assert_eq!(found.expect("read").as_deref(), Some("1"));

    let address = &group.peers[&leader];
    assert_eq!(dial(address, &certificates(&authority, &[])), Ok(leader.clone()));
    // The same authority, from what it had written down.
    let again = Authority::from_pem(authority.certificate(), authority.key()).expect("the same");
    assert_eq!(dial(address, &certificates(&again, &[])), Ok(leader.clone()));
    // One that nobody knows: neither end believes the other.
    let other = Authority::new().expect("an authority");
    dial(address, &certificates(&other, &[])).expect_err("a stranger");
    // It believes ours, but what it shows is of the other one.
    let mut mixed = certificates(&other, &[]);
    mixed.authority = Pem::Bytes(authority.certificate().as_bytes().to_vec());
    dial(address, &mixed).expect_err("a stranger");
    // And one who does not speak TLS at all.
    let mut plain = TcpStream::connect(address).expect("a connection");
    plain.write_all(b"coterie\x01 and what follows it, in the clear").expect("sent");
    let mut answered = Vec::new();
    let _ = plain.read_to_end(&mut answered);
    assert!(!answered.starts_with(b"coterie"));
    let strangers = || refused(&member.status().network).values().sum::<u64>();
    eventually("that they are counted", || (strangers() >= 3).then_some(()));
    put(member, "x", "2").expect("the cluster goes on");
}

/// A member that is killed, or a network that breaks, while a client shows its certificate: the next attempt may do.
#[test]
fn a_connection_that_breaks_while_certificates_are_shown_is_no_verdict_on_them() {
    let authority = Authority::new().expect("an authority");
    let tls = certificates(&authority, &["127.0.0.1"]).load().expect("certificates");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let breaks = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a connection");
            // With what was not read in its buffer, it ends with a reset.
            stream.read_exact(&mut [0; 5]).expect("how TLS begins");
        }
    });
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    for _ in 0..2 {
        let error = runtime.block_on(connect(&address, Some(&tls))).expect_err("it broke");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    breaks.join().expect("it ended");
}

#[test]
fn a_member_off_loopback_wants_certificates_or_to_be_told_that_it_needs_none() {
    let group = Group::prepare(1);
    let mut config = group.config("a");
    config.listen = "0.0.0.0:0".to_owned();
    config.peers.clear();
    let Err(StartError::Config(error)) = Member::start(&config) else { panic!("it started") };
    assert!(error.to_string().contains("is not on loopback: give certificates"), "{error}");
    config.insecure = true;
    let member = Member::start(&config).expect("a member that nobody protects");
    put(&member, "x", "1").expect("written");
    member.close();
    config.insecure = false;
    config.tls = Some(certificates(&Authority::new().expect("an authority"), &["localhost"]));
    let member = Member::start(&config).expect("a member with certificates");
    put(&member, "x", "2").expect("written");
}

#[test]
fn certificates_that_do_not_fit_are_refused_before_anything_starts() {
    let authority = Authority::new().expect("an authority");
    let sound = certificates(&authority, &["127.0.0.1"]);
    let refusal = |tls: Certificates| {
        let group = Group::prepare(1);
        let mut config = group.config("a");
        config.tls = Some(tls);
        match Member::start(&config) {
            Err(StartError::Config(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let nothing = Pem::File("/nowhere/at/all.pem".into());
    assert!(refusal(Certificates { certificate: nothing, ..sound.clone() }).contains("/nowhere/at/all.pem"));
    let empty = Pem::Bytes(b"no certificate".to_vec());
    assert!(refusal(Certificates { authority: empty, ..sound.clone() }).contains("no certificate is in it"));
    let other = certificates(&authority, &["127.0.0.1"]);
    assert!(refusal(Certificates { key: other.key, ..sound }).starts_with("tls: "));
}

//! A server of DNS, written from RFC 1035 and 2782: it says what the test wants, by UDP and TCP on one port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

const A: u16 = 1;
const SRV: u16 = 33;
const OPT: u16 = 41;

/// What the server does.
#[derive(Clone, Default)]
pub enum Behaviour {
    /// Says what it knows: the records of the name that was asked for, in another order each time.
    #[default]
    Honest,
    NxDomain,
    ServFail,
    /// Answers nothing.
    Silent,
    /// Answers what is no message.
    Garbage,
}

/// What it knows.
#[derive(Clone, Default)]
pub struct Zone {
    pub behaviour: Behaviour,
    /// A records by name, in lower case without the last dot.
    pub addresses: Vec<(String, Vec<Ipv4Addr>)>,
    /// SRV records of the one service: priority, weight, port, target.
    pub services: Vec<(u16, u16, u16, String)>,
    pub ttl: u32,
}

pub struct DnsServer {
    pub address: SocketAddr,
    pub zone: Arc<Mutex<Zone>>,
    pub by_tcp: Arc<AtomicU64>,
    pub asked: Arc<AtomicU64>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl DnsServer {
    pub async fn start(zone: Zone) -> Self {
        // The port has to be free for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let port = udp.local_addr().unwrap().port();
            if let Ok(tcp) = TcpListener::bind(("127.0.0.1", port)).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(zone));
        let (by_tcp, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (of, count) = (zone.clone(), asked.clone());
        let datagrams = tokio::spawn(async move {
            let mut query = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut query).await {
                let turn = count.fetch_add(1, Ordering::Relaxed);
                let zone = of.lock().unwrap().clone();
                if let Some(answer) = answer(&query[..length], &zone, turn, Some(512)) {
                    let _ = udp.send_to(&answer, from).await;
                }
            }
        });
        let (of, count) = (zone.clone(), by_tcp.clone());
        let streams = tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let (of, count) = (of.clone(), count.clone());
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut query = vec![0; length.into()];
                        if stream.read_exact(&mut query).await.is_err() {
                            return;
                        }
                        let turn = count.fetch_add(1, Ordering::Relaxed);
                        let zone = of.lock().unwrap().clone();
                        let Some(answer) = answer(&query, &zone, turn, None) else {
                            continue;
                        };
                        let length = u16::try_from(answer.len()).unwrap();
                        let whole = [&length.to_be_bytes()[..], &answer].concat();
                        if stream.write_all(&whole).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            address,
            zone,
            by_tcp,
            asked,
            tasks: [datagrams, streams],
        }
    }

    pub fn change(&self, change: impl FnOnce(&mut Zone)) {
        change(&mut self.zone.lock().unwrap());
    }

    pub fn behaves(&self, behaviour: Behaviour) {
        self.change(|zone| zone.behaviour = behaviour);
    }
}

/// A name in its labels, and where it ends.
fn read_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = message.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

fn write_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// One record about the name that was asked for.
fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xc0, 0x0c];
    bytes.extend(kind.to_be_bytes());
    bytes.extend(1_u16.to_be_bytes());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

fn answer(query: &[u8], zone: &Zone, turn: u64, most: Option<usize>) -> Option<Vec<u8>> {
    let (name, after) = read_name(query, 12)?;
    let kind = u16::from_be_bytes(query.get(after..after + 2)?.try_into().ok()?);
    let question = query.get(12..after + 4)?;
    let known = zone.addresses.iter().find(|(known, _)| *known == name);
    let mut records = Vec::new();
    let mut code = 0;
    match zone.behaviour {
        Behaviour::Silent => return None,
        Behaviour::Garbage => return Some(b"no message at all".to_vec()),
        Behaviour::NxDomain => code = 3,
        Behaviour::ServFail => code = 2,
        Behaviour::Honest if kind == A => {
            let addresses = known
                .map(|(_, addresses)| addresses.as_slice())
                .unwrap_or_default();
            records.extend(addresses.iter().map(|ip| record(A, zone.ttl, &ip.octets())));
        }
        Behaviour::Honest if kind == SRV => {
            for (priority, weight, port, target) in &zone.services {
                let numbers = [priority, weight, port].map(|number| number.to_be_bytes());
                let data = [numbers.concat(), write_name(target)].concat();
                records.push(record(SRV, zone.ttl, &data));
            }
        }
        Behaviour::Honest => {}
    }
    if !records.is_empty() {
        let count = records.len() as u64;
        records.rotate_left(usize::try_from(turn % count).unwrap());
    }
    let has_opt = query.get(10..12)? != [0, 0];
    let build = |records: &[Vec<u8>], truncated: bool| {
        let mut message = query[..2].to_vec();
        message.push(0x84 | u8::from(truncated) << 1 | query[2] & 1);
        message.push(0x80 | code);
        message.extend(1_u16.to_be_bytes());
        message.extend(u16::try_from(records.len()).unwrap().to_be_bytes());
        message.extend([0, 0, 0, u8::from(has_opt)]);
        message.extend(question);
        message.extend(records.concat());
        if has_opt {
            message.push(0);
            message.extend(OPT.to_be_bytes());
            message.extend(1232_u16.to_be_bytes());
            message.extend([0; 6]);
        }
        message
    };
    let whole = build(&records, false);
    Some(match most.is_some_and(|most| whole.len() > most) {
        true => build(&[], true),
        false => whole,
    })
}

//! The way to the API server as a pod has it: TLS with the cluster's own authority, and the service account's token.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use lameduck_rig::certificates::{Authority, Pair};
use lameduck_rig::kubernetes::ApiServer;
use lameduck_rig::place::exe;
use lameduck_rig::proxy::Rig;
use lameduck_rig::setting::skip;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use super::listener::{Listener, pod, pods};

/// TLS in front of the API server.
async fn encrypt(server: &ApiServer, pair: &Pair) -> SocketAddr {
    let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, behind) = (listener.local_addr().unwrap(), server.address);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else {
                    return;
                };
                let mut inside = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    address
}

fn kubeconfig(dir: &Path, server: &ApiServer, address: SocketAddr, authority: &Authority) {
    std::fs::write(dir.join("token"), "token").unwrap();
    std::fs::write(dir.join("ca.crt"), &authority.pem).unwrap();
    let text = server.kubeconfig(&dir.join("token"));
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["clusters"][0]["cluster"] = serde_json::json!({
        "server": format!("https://{address}"),
        "certificate-authority": "ca.crt",
    });
    let path = dir.join("kubeconfig");
    lameduck_rig::certificates::replace(&path, &config.to_string());
}

/// By rustls with ring, like everything else; an authority that is renewed is read again, as the token is.
#[lameduck_rig::test]
async fn the_api_server_is_believed_by_its_authority_alone() {
    let server = ApiServer::start().await;
    server.set_pods("app", 3000, &pods(1), 100);
    server.fail(|faults| faults.tokens = Some(vec!["token".to_owned()]));
    let (right, wrong) = (Authority::new("cluster"), Authority::new("another"));
    let address = encrypt(&server, &right.sign(&["127.0.0.1"])).await;
    let dir = tempfile::tempdir().unwrap();
    kubeconfig(dir.path(), &server, address, &wrong);
    let mut listener = Listener::by_kubeconfig(&dir.path().join("kubeconfig"));
    listener.until_failure("certificate").await;
    assert_eq!((listener.answers, server.asked().pages), (0, 0));
    kubeconfig(dir.path(), &server, address, &right);
    listener.until_set(&["pod-1 serving"]).await;
    server.set_pods("app", 3000, &[pod(1).terminating()], 100);
    listener.until_set(&["pod-1 terminating"]).await;
}

/// The whole proxy in a pod: where the API server is, the variables say; token, authority and namespace are files in
/// /var/run/secrets, which a mount namespace puts there.
#[lameduck_rig::test]
async fn in_a_cluster_the_pods_own_account_and_namespace_are_taken() {
    let server = ApiServer::start().await;
    server.set_pods("app", 3000, &pods(2), 100);
    server.fail(|faults| faults.tokens = Some(vec!["of-the-pod".to_owned()]));
    let authority = Authority::new("cluster");
    let address = encrypt(&server, &authority.sign(&["127.0.0.1"])).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "of-the-pod").unwrap();
    std::fs::write(dir.path().join("ca.crt"), &authority.pem).unwrap();
    std::fs::write(dir.path().join("namespace"), "shop").unwrap();
    let mounted = "account=/var/run/secrets/kubernetes.io/serviceaccount; mount -t tmpfs none /run && mkdir -p $account \
                   && mount --bind \"$0\" $account";
    let can = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", mounted])
        .arg(dir.path())
        .output();
    if !can.is_ok_and(|output| output.status.success()) {
        return skip(
            "in_a_cluster",
            "the right to make mount namespaces, and unshare(1)",
        );
    }
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &format!("{mounted} && exec \"$@\"")])
        .arg(dir.path())
        .arg(exe())
        .env("KUBERNETES_SERVICE_HOST", address.ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", address.port().to_string());
    let pool = "[[pool.discovery]]\ntype = \"kubernetes\"\nservice = \"app\"\n[pool.health]\ntimeout = \"100ms\"\n";
    let own = tempfile::tempdir().unwrap();
    let rig = Rig::start_by(command, own, "", "", pool, Vec::new()).await;
    rig.until("its pods", |pool| pool.backends.len() == 2).await;
    let names: Vec<_> = rig
        .pool()
        .await
        .backends
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(names, ["pod-1", "pod-2"]);
}

/// Elsewhere, the words say what to write.
#[lameduck_rig::test]
async fn outside_of_a_cluster_the_failure_says_what_to_write() {
    let pool = "[[pool.discovery]]\ntype = \"kubernetes\"\nservice = \"app\"\n";
    let mut command = Command::new(exe());
    command.env_remove("KUBERNETES_SERVICE_HOST");
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start_by(command, dir, "", "", pool, Vec::new()).await;
    rig.until("the failure", |pool| pool.discovery[0].state == "failing")
        .await;
    let failure = rig.pool().await.discovery[0].failure.clone().unwrap();
    assert!(
        failure.contains("lameduck runs in no cluster")
            && failure.contains("write `kubeconfig = …`"),
        "{failure}"
    );
}

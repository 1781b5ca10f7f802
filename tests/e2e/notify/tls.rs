//! A receiver behind the real nginx, which speaks TLS for it.

use serde_json::Value;
use testkit::{Authority, Nginx, require_root};

use super::{Site, ban, sources, wait_for};

#[test]
fn a_receiver_is_told_over_tls_if_its_authority_is_believed() {
    require_root!();
    let site = Site::new();
    let authority = Authority::new(site.folder.path()).expect("an authority");
    let address = [127, 0, 0, 1].into();
    authority
        .certify("cert", &[address])
        .expect("a certificate");
    let http = site.placed(
        "server { listen 80; return 200; }\n\
         server { listen 443 ssl; ssl_certificate CERTS/cert.pem;\n\
         ssl_certificate_key CERTS/cert.key; location / { proxy_pass BEHIND; } }",
    );
    let folder = site.folder.path().display().to_string();
    let http = http
        .replace("CERTS", &folder)
        .replace("BEHIND", &format!("http://{}", site.server.address));
    let _nginx = Nginx::start(&site.namespace, &http);
    let url = "url = \"https://127.0.0.1/hook\"";
    let daemon = site.daemon(&format!(
        "[[notify]]\nname = \"trusting\"\n{url}\nca_file = \"FOLDER/ca.pem\"\n\
         [[notify]]\nname = \"wary\"\n{url}\n"
    ));
    ban(&daemon, "198.51.100.1");
    wait_for(&daemon, "trusting", "sent", |status| status["sent"] == 1);
    let wary = wait_for(&daemon, "wary", "refused", |status| {
        status["error"] != Value::Null
    });
    let error = wary["error"].as_str().expect("an error");
    assert!(error.contains("UnknownIssuer"), "{error}");
    assert_eq!(wary["sent"], 0);
    assert_eq!(sources(&site.server.events()), ["198.51.100.1/32"]);
}

//! Certificates for tests, made by the `openssl` of the machine.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// An authority that whoever knows its certificate believes.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

/// Somebody's certificate, and its key: files in PEM.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The file with the certificate.
    pub certificate: PathBuf,
    /// The file with its key.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one in a folder.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let authority = Self {
            folder: folder.to_owned(),
        };
        let Certified { certificate, key } = authority.files("ca");
        openssl(&format!(
            "{NEW} -subj /CN=test-authority -keyout {} -out {}",
            key.display(),
            certificate.display()
        ))?;
        Ok(authority)
    }

    /// The file with its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.files("ca").certificate
    }

    /// Makes a certificate for somebody of this name, which is his files' name, too, and with these
    /// addresses. What he had before is replaced.
    pub fn certify(&self, name: &str, addresses: &[IpAddr]) -> io::Result<Certified> {
        let (own, its) = (self.files("ca"), self.files(name));
        let mut names = vec![format!("DNS:{name}")];
        names.extend(addresses.iter().map(|address| format!("IP:{address}")));
        openssl(&format!(
            "{NEW} -subj /CN={name} -CA {} -CAkey {} -keyout {} -out {} \
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName={}",
            own.certificate.display(),
            own.key.display(),
            its.key.display(),
            its.certificate.display(),
            names.join(",")
        ))?;
        Ok(its)
    }

    fn files(&self, name: &str) -> Certified {
        let path = |end: &str| self.folder.join(format!("{name}.{end}"));
        Certified {
            certificate: path("pem"),
            key: path("key"),
        }
    }
}

const NEW: &str = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";

fn openssl(arguments: &str) -> io::Result<()> {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("openssl {arguments}: {said}")))
}

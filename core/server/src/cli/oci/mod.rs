//! Plugins in OCI registries: one artifact with one layer, pushed and pulled as the distribution specification has it.
//! Knows nothing of what is in a plugin beyond its manifest, and trusts a registry with nothing: what comes back is held
//! against its digest here, and against its signature by the server that installs it.

mod credentials;
mod error;
mod reference;

use std::path::PathBuf;

use clap::Args;
use futures::TryStreamExt as _;
use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use russet_plugin_host::{MAX_COMPONENT, Manifest, component_digest};

use self::error::OciError;
use self::reference::Address;
pub(super) use self::reference::of_argument;
use super::file;

/// What kind of artifact a plugin is.
pub(super) const ARTIFACT_TYPE: &str = "application/vnd.russet.plugin.v1+wasm";
/// What its layer is.
const LAYER_TYPE: &str = "application/wasm";
/// The configuration of artifacts that have none.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// Its content.
const EMPTY: &[u8] = b"{}";
/// The largest manifest in bytes that is read as one.
const MAX_MANIFEST: usize = 256 << 10;
/// How long a registry may be silent.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// How to reach a registry.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Registry")]
pub(super) struct RegistryArgs {
    /// Talk to the registry without encryption. To a registry at localhost that is the default, unless --registry-ca is
    /// given.
    #[arg(long, conflicts_with = "registry_ca")]
    plain_http: bool,
    /// A file with the CA certificates to trust for the registry besides those of the system, in PEM.
    #[arg(long, value_name = "FILE", env = "RUSSET_REGISTRY_CA")]
    registry_ca: Option<PathBuf>,
    /// The user name at the registry; the password is in RUSSET_REGISTRY_PASSWORD [default: what `docker login` or
    /// `podman login` left, unless a credential helper has it].
    #[arg(long, value_name = "NAME", env = "RUSSET_REGISTRY_USER")]
    registry_user: Option<String>,
}

/// A place in a registry.
pub(super) struct Registry {
    client: Client,
    auth: RegistryAuth,
    address: Address,
}

/// Something that is in a registry now.
#[derive(Debug)]
pub(super) struct Pushed {
    /// Where, with the tag.
    pub(super) reference: String,
    /// The digest of its manifest, which names exactly this.
    pub(super) digest: String,
}

impl Registry {
    /// Reads what is needed to talk to a registry; talks to it later.
    pub(super) fn connect(reference: &str, args: &RegistryArgs) -> miette::Result<Self> {
        let address = Address::parse(reference)?;
        let host = address.registry().to_owned();
        let auth = credentials::find(&host, args.registry_user.as_deref())?;
        let protocol = if args.plain_http || (address.is_local() && args.registry_ca.is_none()) {
            ClientProtocol::HttpsExcept(vec![host])
        } else {
            ClientProtocol::Https
        };
        let roots = match &args.registry_ca {
            None => Vec::new(),
            Some(path) => vec![Certificate {
                encoding: CertificateEncoding::Pem,
                data: file::read(path)?,
            }],
        };
        // The client takes the process's provider; a second one to set it finds it set to the same.
        #[expect(
            clippy::disallowed_methods,
            reason = "the client of registries can be told no provider; only the command line does this, never the server"
        )]
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = ClientConfig {
            protocol,
            extra_root_certificates: roots,
            connect_timeout: Some(SILENCE),
            read_timeout: Some(SILENCE),
            use_monolithic_push: true,
            platform_resolver: None,
            user_agent: concat!("russet/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| OciError::of(&address, error))?;
        Ok(Self { client, auth, address })
    }

    /// Pushes a plugin.
    pub(super) async fn push(&self, component: Vec<u8>, manifest: &Manifest) -> miette::Result<Pushed> {
        let reference = self.address.to_push(&manifest.version)?;
        let failed = |error| OciError::of(&self.address, error);
        self.client
            .auth(&reference, &self.auth, RegistryOperation::Push)
            .await
            .map_err(failed)?;
        let layer = descriptor(LAYER_TYPE, &component);
        let config = descriptor(EMPTY_TYPE, EMPTY);
        for (blob, digest) in [(EMPTY.to_vec(), &config.digest), (component, &layer.digest)] {
            self.client.push_blob(&reference, blob, digest).await.map_err(failed)?;
        }
        let artifact = OciImageManifest {
            schema_version: 2,
            media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
            artifact_type: Some(ARTIFACT_TYPE.to_owned()),
            config,
            layers: vec![layer],
            subject: None,
            annotations: Some(
                [
                    ("org.opencontainers.image.title", manifest.name.clone()),
                    ("org.opencontainers.image.version", manifest.version.to_string()),
                    ("org.opencontainers.image.description", manifest.description.clone()),
                ]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            ),
        };
        let body = serde_json::to_vec(&artifact).map_err(|error| failed(error.into()))?;
        let digest = digest(&body);
        let kind = reqwest::header::HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE);
        self.client
            .push_manifest_raw(&reference, body, kind)
            .await
            .map_err(failed)?;
        Ok(Pushed {
            reference: reference.whole(),
            digest,
        })
    }

    /// Pulls a plugin. What comes back has the digest that the manifest names, and the manifest the digest that the
    /// reference names, if it names one.
    pub(super) async fn pull(&self) -> miette::Result<Vec<u8>> {
        let reference = self.address.to_pull()?;
        let failed = |error| OciError::of(&self.address, error);
        let (body, _) = self
            .client
            .pull_manifest_raw(reference, &self.auth, &[OCI_IMAGE_MEDIA_TYPE])
            .await
            .map_err(failed)?;
        let layer = self.layer(&body)?;
        Ok(self.blob(reference, &layer).await?)
    }

    /// The one layer of a plugin's manifest.
    fn layer(&self, manifest: &[u8]) -> Result<OciDescriptor, OciError> {
        let no_plugin = |reason: &str| OciError::NoPlugin {
            reference: self.address.to_string(),
            reason: reason.to_owned(),
        };
        if manifest.len() > MAX_MANIFEST {
            return Err(no_plugin("its manifest is too large"));
        }
        let manifest: OciImageManifest =
            serde_json::from_slice(manifest).map_err(|_| no_plugin("its manifest is not one of an OCI artifact"))?;
        // Tools from before artifact types wrote the type of the configuration instead.
        if manifest.artifact_type.as_deref() != Some(ARTIFACT_TYPE) && manifest.config.media_type != ARTIFACT_TYPE {
            return Err(no_plugin("its artifact type is another"));
        }
        let [layer] = &*manifest.layers else {
            return Err(no_plugin("it has not exactly one layer"));
        };
        if layer.media_type != LAYER_TYPE || !layer.digest.starts_with("sha256:") {
            return Err(no_plugin("its layer is no WebAssembly with a SHA-256 digest"));
        }
        match usize::try_from(layer.size) {
            Ok(size) if size <= MAX_COMPONENT => Ok(OciDescriptor {
                media_type: layer.media_type.clone(),
                digest: layer.digest.clone(),
                size: layer.size,
                // A manifest can name other places to fetch from; they are none of ours to visit.
                ..OciDescriptor::default()
            }),
            _ => Err(no_plugin("it is larger than any plugin")),
        }
    }

    async fn blob(&self, reference: &Reference, layer: &OciDescriptor) -> Result<Vec<u8>, OciError> {
        let expected = usize::try_from(layer.size).unwrap_or_default();
        let wrong = || OciError::Digest {
            reference: self.address.to_string(),
            reason: format!("expected {} in {expected} bytes", layer.digest),
        };
        let mut blob = Vec::with_capacity(expected);
        let response = self.client.pull_blob_stream(reference, layer).await;
        let mut stream = response.map_err(|error| OciError::of(&self.address, error))?.stream;
        while let Some(part) = stream
            .try_next()
            .await
            .map_err(|error| OciError::of_io(&self.address, &error))?
        {
            if blob.len() + part.len() > expected {
                return Err(wrong());
            }
            blob.extend_from_slice(&part);
        }
        if blob.len() != expected || digest(&blob) != layer.digest {
            return Err(wrong());
        }
        Ok(blob)
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", component_digest(bytes))
}

fn descriptor(kind: &str, content: &[u8]) -> OciDescriptor {
    OciDescriptor {
        media_type: kind.to_owned(),
        digest: digest(content),
        size: i64::try_from(content.len()).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    }
}

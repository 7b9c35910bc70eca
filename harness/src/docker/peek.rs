// SPDX-License-Identifier: Apache-2.0
//! A look at a file of an image, without running anything of it.

use std::collections::HashMap;
use std::io::Read;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, DownloadFromContainerOptionsBuilder};
use futures_util::StreamExt;

use super::{DockerError, Engine, RUN_LABEL};

/// Largest file that is read, bytes, and what its archive has around it.
const FILE_MAX: usize = 4 << 20;
const AROUND: usize = 64 << 10;

impl Engine {
    /// A file of an image, at most 4 MiB; `None` where it has none. A container is made of the image,
    /// never started, and removed again; it carries the run's id.
    ///
    /// # Errors
    /// There is no such image, the file is larger, or the Engine refuses.
    pub fn file_in_image(
        &self,
        image: &str,
        path: &str,
        run: &str,
    ) -> Result<Option<Vec<u8>>, DockerError> {
        let labels = HashMap::from([(RUN_LABEL.to_owned(), run.to_owned())]);
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            labels: Some(labels),
            ..ContainerCreateBody::default()
        };
        let docker = self.docker();
        let create = docker.create_container(None::<CreateContainerOptions>, body);
        let container = self.ask("make a container of", image, create)?.id;
        let read = self.file_in_container(&container, path);
        let removed = self.remove(&container, true);
        let file = read?;
        removed?;
        Ok(file)
    }

    fn file_in_container(&self, id: &str, path: &str) -> Result<Option<Vec<u8>>, DockerError> {
        const OP: &str = "read";
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let mut pieces = self.docker().download_from_container(id, Some(options));
        let read = async {
            let mut archive = Vec::new();
            while let Some(piece) = pieces.next().await {
                archive.extend_from_slice(&piece?);
                if archive.len() > FILE_MAX + AROUND {
                    break;
                }
            }
            Ok(archive)
        };
        let archive = match self.ask(OP, path, read) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let too_much = DockerError::TooMuch { op: OP, subject: path.to_owned(), limit: FILE_MAX };
        if archive.len() > FILE_MAX + AROUND {
            return Err(too_much);
        }
        first_file(&archive)
            .ok_or(DockerError::Incomplete { op: OP, subject: path.to_owned(), what: "file" })
            .map(Some)
    }
}

/// The bytes of the one file in an archive.
fn first_file(archive: &[u8]) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive.entries().ok()?.next()?.ok()?;
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_without_a_file_has_none() {
        assert_eq!(first_file(&[0; 1024]), None);
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, "a", &b"abc"[..]).unwrap();
        assert_eq!(first_file(&archive.into_inner().unwrap()), Some(b"abc".to_vec()));
    }
}

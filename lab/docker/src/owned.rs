//! What a lab has made in the dockerd of a machine that is not labctl's own: known by a label, and removed again.

use std::collections::HashMap;

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptions,
};

use crate::{Call, Error, HostDocker, is_not_found};

/// Label of what a lab has made: the lab's name.
pub const LABEL_LAB: &str = "labctl.lab";

impl HostDocker {
    /// Labels all that is made from now on with the lab's name.
    pub fn labelled(mut self, lab: &str) -> Self {
        self.labels.insert(LABEL_LAB.to_owned(), lab.to_owned());
        self
    }

    /// The version of dockerd.
    pub async fn server_version(&self) -> Result<String, Error> {
        let info = self.api.info().whole().await.map_err(self.failed("info"))?;
        Ok(info.server_version.unwrap_or_default())
    }

    /// Names of the containers, running or not, each with the lab that it is labelled with.
    pub async fn container_names(&self) -> Result<Vec<(String, Option<String>)>, Error> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let found =
            self.api.list_containers(Some(options)).whole().await.map_err(self.failed("list containers"))?;
        let of = |c: bollard::models::ContainerSummary| {
            let lab = c.labels.and_then(|mut labels| labels.remove(LABEL_LAB));
            let names = c.names.unwrap_or_default();
            let plain = |name: String| name.trim_start_matches('/').to_owned();
            names.into_iter().map(move |name| (plain(name), lab.clone())).collect::<Vec<_>>()
        };
        Ok(found.into_iter().flat_map(of).collect())
    }

    /// Removes the containers of a lab, by force and with their volumes. Returns what could not be removed.
    pub async fn clear_containers(&self, lab: &str) -> Result<Vec<String>, Error> {
        let label = format!("{LABEL_LAB}={lab}");
        let filters = HashMap::from([("label", vec![label.as_str()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found =
            self.api.list_containers(Some(options)).whole().await.map_err(self.failed("list containers"))?;
        let mut left = Vec::new();
        for id in found.into_iter().filter_map(|c| c.id) {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            match self.api.remove_container(&id, Some(options)).whole().await {
                Err(e) if !is_not_found(&e) => {
                    left.push(self.failed(format!("remove container {id}"))(e).to_string());
                }
                _ => {}
            }
        }
        Ok(left)
    }

    /// Removes the networks of a lab that are this host's alone. Returns what could not be removed.
    pub async fn clear_networks(&self, lab: &str) -> Result<Vec<String>, Error> {
        let label = format!("{LABEL_LAB}={lab}");
        let filters = HashMap::from([("label", vec![label.as_str()]), ("scope", vec!["local"])]);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let found =
            self.api.list_networks(Some(options)).whole().await.map_err(self.failed("list networks"))?;
        let mut left = Vec::new();
        for id in found.into_iter().filter_map(|n| n.id) {
            left.extend(self.remove_network_if_there(&id).await.err().map(|e| e.to_string()));
        }
        Ok(left)
    }

    /// Removes an image, if it is there and nothing uses it.
    pub async fn remove_image(&self, name: &str) -> Result<(), Error> {
        match self.api.remove_image(name, None::<RemoveImageOptions>, None).whole().await {
            Err(e) if !is_not_found(&e) => Err(self.failed(format!("remove image {name}"))(e)),
            _ => Ok(()),
        }
    }
}

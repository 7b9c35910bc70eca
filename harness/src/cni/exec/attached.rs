// SPDX-License-Identifier: Apache-2.0
//! A pod that plugins have attached to its node: ADD in the list's order, CHECK, DEL in reverse.

use std::path::Path;

use serde_json::{Map, Value};

use super::answer::Answer;
use super::error::ExecError;
use super::plugins::{Call, Plugins};
use super::render::{self, NodeValues};
use crate::cni::POD_ETH;
use crate::net::{Cidr, Netns, State};
use crate::plan::Conflist;

/// A pod to be attached.
#[derive(Clone, Copy, Debug)]
pub struct Attaching<'a> {
    /// Its node.
    pub node: &'a Netns,
    /// Itself.
    pub pod: &'a Netns,
    /// Address planned for it, with the prefix of its node's range.
    pub address: Cidr,
}

/// What was done for a pod, and is to be undone.
#[derive(Debug)]
pub struct Attached {
    container: String,
    address: Cidr,
    /// Each plugin's configuration without what only one call has, in the list's order.
    configs: Vec<(String, Map<String, Value>)>,
    /// The last plugin's result; `None` where one failed.
    answer: Option<Answer>,
}

impl Attached {
    /// Has the list's plugins attach a pod. `state` is the node's folder for what they keep.
    ///
    /// # Errors
    /// A plugin fails, or the pod has another address than the planned one; beside it what is to be
    /// undone.
    pub fn add(
        list: &Conflist,
        plugins: &Plugins,
        at: Attaching<'_>,
        values: &NodeValues,
        state: &Path,
    ) -> (Self, Result<(), ExecError>) {
        let configs = list.plugins().iter().map(|plugin| {
            let config = render::config(list, plugin, values, state);
            (plugin.program.clone(), render::for_pod(config, at.address))
        });
        let mut attached = Self {
            container: at.pod.name().to_owned(),
            address: at.address,
            configs: configs.collect(),
            answer: None,
        };
        let outcome = attached.run_add(list, plugins, at);
        (attached, outcome)
    }

    fn run_add(
        &mut self,
        list: &Conflist,
        plugins: &Plugins,
        at: Attaching<'_>,
    ) -> Result<(), ExecError> {
        const ADD: &str = "ADD";
        let mut answer: Option<Answer> = None;
        for (plugin, config) in &self.configs {
            let config = with_previous(config, answer.as_ref());
            let bytes = plugins.call(plugin, &self.called(ADD, at, &config))?;
            let wrong = |reason| ExecError::Answer {
                plugin: plugin.clone(),
                verb: ADD,
                pod: self.container.clone(),
                reason,
            };
            answer = Some(Answer::parse(&bytes, list.version()).map_err(wrong)?);
        }
        self.answer = answer;
        let found = self.answer.as_ref().map_or(&[][..], |answer| &answer.addresses);
        if found.iter().any(|cidr| cidr.address == self.address.address) {
            return Ok(());
        }
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        Err(ExecError::Address {
            cni: list.label(),
            pod: self.container.clone(),
            wanted: self.address.address,
            found: if found.is_empty() { "no address".to_owned() } else { found.join(", ") },
        })
    }

    /// Asks each plugin whether all is as it made it.
    ///
    /// # Errors
    /// One says no.
    pub fn check(&self, plugins: &Plugins, at: Attaching<'_>) -> Result<(), ExecError> {
        for (plugin, config) in &self.configs {
            let config = with_previous(config, self.answer.as_ref());
            plugins.call(plugin, &self.called("CHECK", at, &config))?;
        }
        Ok(())
    }

    /// Has each plugin undo what it did, the last one first. One that fails does not keep the others
    /// from it.
    pub fn del(&self, plugins: &Plugins, at: Attaching<'_>) -> Vec<ExecError> {
        let undo = |(plugin, config): &(String, Map<String, Value>)| {
            let config = with_previous(config, self.answer.as_ref());
            plugins.call(plugin, &self.called("DEL", at, &config)).err()
        };
        self.configs.iter().rev().filter_map(undo).collect()
    }

    /// Looks in the pod's kernel for what the result says of it. Returns evidence.
    ///
    /// # Errors
    /// What is expected, and what was found instead.
    pub fn holds(&self, state: &State) -> Result<Vec<String>, (String, String)> {
        let pod = &self.container;
        let Some(answer) = &self.answer else {
            return Err(("a result of ADD".to_owned(), "none".to_owned()));
        };
        let made = answer.interfaces.iter().filter(|made| !made.sandbox.is_empty());
        for interface in made {
            match state.link(&interface.name) {
                Some(link) if link.up => {}
                other => return Err((format!("{} up", interface.name), format!("{other:?}"))),
            }
        }
        let on_eth = |cidr: &Cidr| {
            let mut all = state.addresses.iter().filter(|address| address.device == POD_ETH);
            all.any(|address| address.cidr == *cidr)
        };
        if let Some(missing) = answer.addresses.iter().find(|cidr| !on_eth(cidr)) {
            return Err((
                format!("ip address add {missing} dev {POD_ETH}"),
                format!("{:?}", state.addresses),
            ));
        }
        let has = |(to, via): &(Cidr, Option<std::net::IpAddr>)| {
            state
                .routes
                .iter()
                .any(|route| route.to == *to && route.via == *via && route.device == POD_ETH)
        };
        if let Some((to, via)) = answer.routes.iter().find(|route| !has(route)) {
            let via = via.map_or_else(String::new, |via| format!(" via {via}"));
            return Err((
                format!("ip route add {to}{via} dev {POD_ETH}"),
                format!("{:?}", state.routes),
            ));
        }
        let addresses: Vec<_> = answer.addresses.iter().map(ToString::to_string).collect();
        let routes: Vec<_> = answer.routes.iter().map(|(to, _)| to.to_string()).collect();
        Ok(vec![format!(
            "{pod} has {} on {POD_ETH} and routes to {}, as the result of ADD says",
            addresses.join(", "),
            if routes.is_empty() { "nothing".to_owned() } else { routes.join(", ") },
        )])
    }

    fn called<'a>(
        &'a self,
        verb: &'static str,
        at: Attaching<'a>,
        config: &'a Map<String, Value>,
    ) -> Call<'a> {
        let args = format!("IgnoreUnknown=1;IP={}", self.address);
        Call { verb, node: at.node, pod: at.pod, container: &self.container, args, config }
    }
}

fn with_previous(config: &Map<String, Value>, answer: Option<&Answer>) -> Map<String, Value> {
    let mut config = config.clone();
    if let Some(answer) = answer {
        config.insert("prevResult".to_owned(), answer.value.clone());
    }
    config
}

//! What happens to a node: reboots, rude neighbours, settings that change what stands on its disk. A program of its
//! own, since the other tests assert that nobody touches the CNI folder.

mod care;
mod cilium;
mod reboots;
mod settings;

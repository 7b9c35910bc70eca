// SPDX-License-Identifier: Apache-2.0
//! What a run's times may be used for, in words.

use record::Fidelity;

/// Its name, as the record spells it.
pub fn word(fidelity: Fidelity) -> &'static str {
    match fidelity {
        Fidelity::Functional => "functional",
        Fidelity::Relative => "relative",
        Fidelity::Absolute => "absolute",
    }
}

/// What a reader may do with the times.
pub fn advice(fidelity: Fidelity) -> &'static str {
    match fidelity {
        Fidelity::Functional => {
            "Made on an emulated processor: its times mean nothing. Use its counts, proofs and paths."
        }
        Fidelity::Relative => {
            "Compare within this run only. Other work shared the processor, so a time here is not \
             what your machine would show; the difference between two modes in this run is."
        }
        Fidelity::Absolute => {
            "Made on isolated cores of a quiet machine: its times hold for this machine and kernel."
        }
    }
}

/// Whether times may be compared at all.
pub fn times_count(fidelity: Fidelity) -> bool {
    fidelity != Fidelity::Functional
}

//! Stands in for what the module of distributions is to bring.
use std::sync::Arc;

use crate::shaping::distribution::Distribution;

impl Distribution {
    pub(crate) fn builtin(name: &str) -> Option<Self> {
        Some(match name {
            "uniform" => Self::Uniform,
            "normal" => Self::Normal,
            "pareto" => Self::Pareto,
            "paretonormal" => Self::ParetoNormal,
            _ => return None,
        })
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Uniform => "uniform",
            Self::Normal => "normal",
            Self::Pareto => "pareto",
            Self::ParetoNormal => "paretonormal",
            Self::Table { name, .. } => name,
        }
    }

    pub(crate) fn table(&self) -> Option<Arc<[i32]>> {
        Some(match self {
            Self::Uniform => return None,
            Self::Normal => Arc::new([-8192, 0, 8192]),
            Self::Pareto => Arc::new([-8000, 16_000]),
            Self::ParetoNormal => Arc::new([-8100, 12_000]),
            Self::Table { entries, .. } => entries.clone(),
        })
    }
}

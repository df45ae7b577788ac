//! A report in pieces, each made when the one before it has been sent: of a thousand containers it is seven megabytes.

use std::{iter, time::SystemTime};

use serde::Serialize;

use super::{
    controls::Buttons,
    nodes::{Dates, node, report},
    report::Timestamp,
};
use crate::shaping::ContainerView;

/// How large a piece is at least, but for the first and the last one, in bytes.
const PIECE: usize = 64 * 1024;
/// Where the nodes go in a report without any.
const NODES: &str = "\"nodes\":{";

/// The bytes of what the probe `probe_id` is told at `now`.
pub(super) fn pieces(
    mut views: Vec<ContainerView>,
    buttons: Buttons,
    probe_id: String,
    now: SystemTime,
) -> serde_json::Result<impl Iterator<Item = serde_json::Result<Vec<u8>>>> {
    let mut head = serde_json::to_string(&report(&[], buttons, &probe_id, now))?;
    let begin = head.find(NODES).map_or(0, |at| at + NODES.len());
    let (tail, head) = (head.split_off(begin).into_bytes(), head.into_bytes());
    // In the order of ids, and each once, as in a map.
    views.sort_by(|a, b| a.container.id.cmp(&b.container.id));
    views.dedup_by(|a, b| a.container.id == b.container.id);
    let mut views = views.into_iter().enumerate();
    let (now, mut dates) = (Timestamp::from(now), Dates::default());
    let nodes = iter::from_fn(move || piece(&mut views, buttons, &probe_id, now, &mut dates).transpose());
    Ok(iter::once(Ok(head)).chain(nodes).chain(iter::once(Ok(tail))))
}

/// The next nodes; none when all have been given.
fn piece(
    views: &mut impl Iterator<Item = (usize, ContainerView)>,
    buttons: Buttons,
    probe_id: &str,
    now: Timestamp,
    dates: &mut Dates,
) -> serde_json::Result<Option<Vec<u8>>> {
    let mut piece = Vec::with_capacity(PIECE + PIECE / 4);
    while piece.len() < PIECE
        && let Some((number, view)) = views.next()
    {
        if number > 0 {
            piece.push(b',');
        }
        let (key, node) = node(&view, buttons, probe_id, now, dates);
        key.serialize(&mut serde_json::Serializer::new(&mut piece))?;
        piece.push(b':');
        node.serialize(&mut serde_json::Serializer::new(&mut piece))?;
    }
    Ok((!piece.is_empty()).then_some(piece))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::{
        ContainerState, RuntimeName,
        fake::{container, shaped_web},
    };

    #[test]
    fn the_pieces_of_a_report_are_the_report() {
        let crowd = (1000..1200).map(|number| {
            let id = format!("id{number}");
            let view = container(&id, &id, RuntimeName::Netns, ContainerState::Running);
            ContainerView { interfaces: shaped_web().interfaces, samples: shaped_web().samples, ..view }
        });
        for views in [vec![], vec![shaped_web()], crowd.rev().collect()] {
            let whole = serde_json::to_vec(&report(
                &views,
                Buttons::with_presets([]),
                "1f9e",
                SystemTime::UNIX_EPOCH,
            ))
            .expect("JSON");
            let pieces = pieces(views, Buttons::with_presets([]), "1f9e".to_owned(), SystemTime::UNIX_EPOCH)
                .expect("a report");
            let pieces: Vec<_> = pieces.collect::<Result<_, _>>().expect("JSON");
            assert!(pieces.iter().all(|piece| piece.len() < 2 * PIECE));
            assert!(pieces.concat() == whole, "{}", String::from_utf8_lossy(&pieces.concat()));
        }
    }
}

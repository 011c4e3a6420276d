//! What every layout promises, of graphs made at random.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const WIDTH: f64 = 120.0;

/// `count` boxes; an edge to a box with a smaller number only, unless `cycles`.
fn graph(count: usize, edges: &[(usize, usize)], cycles: bool) -> Vec<Vec<usize>> {
    let mut deps = vec![Vec::new(); count];
    for (a, b) in edges {
        if a != b && (cycles || a < b) && !deps[*b].contains(a) {
            deps[*b].push(*a);
        }
    }
    deps
}

fn lay_out(deps: &[Vec<usize>]) -> Layout {
    Layout::new(deps, &vec![WIDTH; deps.len()])
}

fn edges_of(deps: &[Vec<usize>]) -> BTreeSet<(usize, usize)> {
    let pairs = deps.iter().enumerate();
    pairs
        .flat_map(|(by, needed)| needed.iter().map(move |needs| (by, *needs)))
        .collect()
}

fn overlap(layout: &Layout) -> Option<(usize, usize)> {
    let places = &layout.places;
    let pairs = (0..places.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    pairs.into_iter().find(|(a, b)| {
        let ((ax, ay), (bx, by)) = (places[*a], places[*b]);
        (ax - bx).abs() < WIDTH && (ay - by).abs() < BOX
    })
}

proptest! {
    #[test]
    fn no_boxes_overlap_and_every_dependency_is_drawn_from_box_to_box(
        edges in prop::collection::vec((0usize..40, 0usize..40), 0..100),
        cycles: bool,
    ) {
        let deps = graph(40, &edges, cycles);
        let layout = lay_out(&deps);
        prop_assert_eq!(overlap(&layout), None);
        let drawn: BTreeSet<_> = layout.edges.iter().map(|edge| (edge.by, edge.needs)).collect();
        prop_assert_eq!(layout.edges.len(), drawn.len());
        prop_assert_eq!(drawn, edges_of(&deps));
        for (x, y) in &layout.places {
            prop_assert!(*x >= 0.0 && x + WIDTH <= layout.width, "{x}");
            prop_assert!(*y >= BOX / 2.0 && y + BOX / 2.0 <= layout.height, "{y}");
        }
        for edge in layout.edges.iter().filter(|_| layout.frames.is_empty()) {
            let ends = [(edge.by, edge.points[0]), (edge.needs, *edge.points.last().unwrap())];
            for (node, (x, y)) in ends {
                let (left, middle) = layout.places[node];
                prop_assert!((y - middle).abs() < BOX / 2.0, "{edge:?}");
                let at = |side: f64| (x - side).abs() < 0.001;
                prop_assert!(at(left) || at(left + WIDTH), "{edge:?}");
            }
        }
    }

    #[test]
    fn no_line_runs_through_a_box(
        edges in prop::collection::vec((0usize..40, 0usize..40), 0..100),
        cycles: bool,
    ) {
        let layout = lay_out(&graph(40, &edges, cycles));
        for edge in layout.edges.iter().filter(|_| layout.frames.is_empty()) {
            for pair in edge.points.windows(2) {
                let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
                // A curve is between two columns, where no box is.
                if x0 != x1 && y0 != y1 {
                    continue;
                }
                let through = layout.places.iter().enumerate().find(|(node, (left, middle))| {
                    ![edge.by, edge.needs].contains(node)
                        && x0.max(x1) > *left
                        && x0.min(x1) < left + WIDTH
                        && y0.max(y1) > middle - BOX / 2.0
                        && y0.min(y1) < middle + BOX / 2.0
                });
                prop_assert_eq!(through, None, "{:?}", edge);
            }
        }
    }

    #[test]
    fn a_part_is_no_higher_than_its_fullest_column(
        edges in prop::collection::vec((0usize..60, 0usize..60), 0..120),
    ) {
        let deps = graph(60, &edges, false);
        let sizes = vec![(WIDTH, BOX); 60];
        for part in parts(&deps).0 {
            let inner = piece(&deps, &sizes, &part);
            // Boxes by column; lanes take less than one box each and there is at most one for
            // each box that is needed farther away.
            let mut columns = std::collections::BTreeMap::<u64, usize>::new();
            for (_, (x, _)) in &inner.places {
                *columns.entry(x.to_bits()).or_default() += 1;
            }
            let fullest = *columns.values().max().unwrap() as f64;
            let lanes = part.len() as f64 * LANE;
            prop_assert!(inner.height <= fullest * ROW + lanes, "{} {fullest}", inner.height);
        }
    }

    #[test]
    fn what_is_needed_lies_to_the_right(
        edges in prop::collection::vec((0usize..12, 0usize..12), 0..30),
    ) {
        let deps = graph(12, &edges, false);
        let layout = Layout::new(&deps, &[20.0; 12]);
        for (by, needs) in edges_of(&deps) {
            prop_assert!(layout.places[by].0 + 20.0 < layout.places[needs].0);
        }
    }

    #[test]
    fn reducing_keeps_what_is_reached(
        edges in prop::collection::vec((0usize..20, 0usize..20), 0..60),
        cycles: bool,
    ) {
        let deps = graph(20, &edges, cycles);
        let reach = |deps: &[Vec<usize>]| -> Vec<BTreeSet<usize>> {
            let from = |node: usize| {
                let (mut seen, mut open) = (BTreeSet::new(), vec![node]);
                while let Some(node) = open.pop() {
                    open.extend(deps[node].iter().filter(|dep| seen.insert(**dep)));
                }
                seen
            };
            (0..deps.len()).map(from).collect()
        };
        prop_assert_eq!(reach(&deps), reach(&reduce(&deps)));
    }
}

/// What a person found: boxes drifted down with every pass, and most of the page was empty.
#[test]
fn a_large_graph_is_not_stretched() {
    // A fixed sequence of numbers that looks random (Knuth's multiplier).
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let edges: Vec<_> = (0..90).map(|_| (next(60), next(60))).collect();
    let layout = lay_out(&reduce(&graph(60, &edges, false)));
    assert!(layout.height < 900.0, "{}", layout.height);
}

#[test]
fn boxes_that_need_each_other_are_both_drawn_and_apart() {
    let layout = lay_out(&[vec![1], vec![0], vec![]]);
    let drawn: BTreeSet<_> = layout
        .edges
        .iter()
        .map(|edge| (edge.by, edge.needs))
        .collect();
    assert_eq!(drawn, BTreeSet::from([(0, 1), (1, 0)]));
    let [there, back] = &layout.edges[..] else {
        panic!("two edges")
    };
    assert!(
        there.points[0].1 != back.points.last().unwrap().1,
        "{there:?} {back:?}"
    );
}

#[test]
fn boxes_without_edges_make_a_compact_grid() {
    let layout = lay_out(&vec![Vec::new(); 200]);
    let area = layout.width * layout.height;
    assert!(area < 200.0 * (WIDTH + 30.0) * (ROW + 10.0), "{area}");
    assert!((1.0..3.0).contains(&(layout.width / layout.height)));
    let columns: BTreeSet<u64> = layout.places.iter().map(|(x, _)| x.to_bits()).collect();
    assert!(columns.len() > 4);
}

#[test]
fn small_parts_lie_side_by_side() {
    // 30 pairs: one below the other they would be 2,100 pixels high.
    let deps: Vec<Vec<usize>> = (0..60)
        .map(|n| if n % 2 == 0 { vec![] } else { vec![n - 1] })
        .collect();
    let layout = lay_out(&deps);
    assert_eq!(overlap(&layout), None);
    assert!(
        layout.height < 1000.0 && layout.width < 1700.0,
        "{} × {}",
        layout.width,
        layout.height
    );
}

#[test]
fn a_long_chain_is_wrapped() {
    let deps: Vec<Vec<usize>> = (0..80)
        .map(|n| if n == 0 { vec![] } else { vec![n - 1] })
        .collect();
    let layout = lay_out(&deps);
    assert_eq!(overlap(&layout), None);
    assert!(
        layout.width < 2000.0 && layout.height < 1200.0,
        "{} × {}",
        layout.width,
        layout.height
    );
    assert_eq!(
        layout.start,
        Some(79),
        "a reader begins with what nothing needs"
    );
}

#[test]
fn what_many_need_has_them_in_a_block_beside_it() {
    let mut deps = vec![vec![0]; 251];
    deps[0].clear();
    let layout = lay_out(&deps);
    assert_eq!((layout.frames.len(), layout.edges.len()), (1, 250));
    assert_eq!(overlap(&layout), None);
    assert!(layout.height < 1600.0, "{}", layout.height);
    let right_of_all = layout.places[1..]
        .iter()
        .all(|(x, _)| x + WIDTH < layout.places[0].0);
    assert!(right_of_all);
}

#[test]
fn nothing_is_laid_out_too() {
    let layout = lay_out(&[]);
    assert_eq!((layout.places.len(), layout.start), (0, None));
    assert!(layout.width > 0.0 && layout.height > 0.0);
}

#[test]
fn a_line_bends_where_it_turns() {
    let level = route::path(&[(0.0, 0.0), (50.0, 0.0), (50.0, 40.0), (90.0, 80.0)]);
    assert_eq!(level, "M0,0L44,0Q50,0 50,6L50,40C70,40 70,80 90,80");
}

//! What is drawn of a graph, and what a page holds.

use super::super::flaws::Flaws;
use super::super::graph::tests::targets;
use super::*;

fn graph() -> Graph {
    let targets = targets(&[
        ("//a:x", &["//b:y", "//c:z"], &[]),
        ("//b:y", &["//c:z"], &[]),
        ("//c:z", &[], &[]),
        ("//c:w", &["//c:z"], &[]),
        // Packages that need each other, though their targets do not.
        ("//c:late", &["//b:y"], &[]),
    ]);
    Graph::new(targets, &Flaws::default(), &|_| String::new())
}

fn picture(by_package: bool) -> Picture {
    let graph = graph();
    let draw = if by_package {
        Picture::packages
    } else {
        Picture::targets
    };
    draw(&graph, graph.order(), "</script><b>", &|_| None)
}

#[test]
fn graphviz_gets_every_target_and_every_edge() {
    let dot = picture(false).dot();
    for (from, to) in [("//a:x", "//b:y"), ("//b:y", "//c:z"), ("//a:x", "//c:z")] {
        assert!(dot.contains(&format!("\"{from}\" -> \"{to}\";")), "{dot}");
    }
}

#[test]
fn an_edge_that_follows_from_others_is_left_out_of_a_drawing() {
    let (layout, ..) = picture(false).views[0].layout();
    let edges: Vec<_> = layout
        .edges
        .iter()
        .map(|edge| (edge.by, edge.needs))
        .collect();
    assert_eq!(edges.len(), 4, "//a:x -> //c:z is left out: {edges:?}");
}

#[test]
fn packages_are_drawn_as_one_box_each_also_when_they_need_each_other() {
    let dot = picture(true).dot();
    assert!(!dot.contains("\"//c\" -> \"//c\""), "{dot}");
    assert!(
        dot.contains("\"//b\" -> \"//c\"") && dot.contains("\"//c\" -> \"//b\""),
        "{dot}"
    );
    let picture = picture(true);
    let at = |name| {
        picture.views[0]
            .boxes
            .iter()
            .position(|node| node.name == name)
            .unwrap()
    };
    let (layout, ..) = picture.views[0].layout();
    for (by, needs) in [("//b", "//c"), ("//c", "//b")] {
        let drawn = layout
            .edges
            .iter()
            .any(|edge| (edge.by, edge.needs) == (at(by), at(needs)));
        assert!(drawn, "{by} -> {needs}");
    }
}

#[test]
fn a_package_opens_into_its_targets_and_their_neighbours() {
    let picture = picture(true);
    let package = picture.views[0]
        .boxes
        .iter()
        .find(|node| node.name == "//c")
        .unwrap();
    let view = &picture.views[package.view.unwrap()];
    let names: BTreeSet<(&str, bool)> = view
        .boxes
        .iter()
        .map(|node| (node.name.as_str(), node.guest))
        .collect();
    let expected = [
        ("//a:x", true),
        ("//b:y", true),
        ("//c:late", false),
        ("//c:w", false),
        ("//c:z", false),
    ];
    assert_eq!(names, BTreeSet::from(expected));
    for guest in view.boxes.iter().filter(|node| node.guest) {
        let home = &picture.views[guest.view.unwrap()];
        assert!(
            home.boxes
                .iter()
                .any(|node| node.name == guest.name && !node.guest)
        );
    }
}

#[test]
fn too_many_neighbours_of_a_package_are_drawn_by_package() {
    let users: Vec<String> = (0..=NEIGHBOURS)
        .map(|n| format!("//p{}:t{n}", n % 3))
        .collect();
    let mut all: Vec<(&str, &[&str], &[&str])> = vec![("//core:lib", &[], &[])];
    all.extend(
        users
            .iter()
            .map(|user| (user.as_str(), &["//core:lib"][..], &[][..])),
    );
    let graph = Graph::new(targets(&all), &Flaws::default(), &|_| String::new());
    let picture = Picture::packages(&graph, graph.order(), "", &|_| None);
    let view = picture
        .views
        .iter()
        .find(|view| view.name == "//core")
        .unwrap();
    let names: BTreeSet<&str> = view.boxes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(
        names,
        BTreeSet::from(["//core:lib", "//p0", "//p1", "//p2"])
    );
}

#[test]
fn a_page_holds_its_data_and_nothing_from_elsewhere() {
    let html = picture(false).html();
    assert!(!html.contains("</script><b>") && html.contains("//a:x"));
    assert!(
        html.contains("\"implied\":1,") && html.contains("that follow from others are left out")
    );
    for left in ["src=", "$DATA", "$LOOK", "$SCRIPT", "$TIPS"] {
        assert!(!html.contains(left), "{left}");
    }
}

#[test]
fn an_image_is_xml_with_every_box() {
    let svg = picture(false).svg();
    assert!(svg.starts_with("<svg ") && !svg.contains("<b>"), "{svg}");
    assert_eq!(svg.matches("class=\"node\"").count(), 5);
    assert_eq!(svg.matches("class=\"edge\"").count(), 4);
}

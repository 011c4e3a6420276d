use zako_actors::transpile::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (root, out, fmt) = (&a[1], &a[2], &a[3]);
    let mut files = vec![];
    fn walk(d: &std::path::Path, v: &mut Vec<std::path::PathBuf>) {
        for e in std::fs::read_dir(d).unwrap() {
            let p = e.unwrap().path();
            if p.is_dir() { walk(&p, v) } else { v.push(p) }
        }
    }
    walk(std::path::Path::new(root), &mut files);
    let rel: Vec<String> = files
        .iter()
        .map(|p| p.strip_prefix(root).unwrap().to_str().unwrap().to_owned())
        .filter(|p| output_path(p).is_some())
        .collect();
    let mut t = Transpiler::new();
    let s = std::time::Instant::now();
    let idx = ModuleIndex::new(rel.iter().map(|r| {
        (
            r.clone(),
            t.survey(r, &std::fs::read_to_string(format!("{root}/{r}")).unwrap()),
        )
    }));
    println!("survey {:?}", s.elapsed());
    let mut bytes = 0;
    let (mut n, mut bad) = (0, 0);
    let mut el = std::time::Duration::ZERO;
    for r in &rel {
        let src = std::fs::read_to_string(format!("{root}/{r}")).unwrap();
        bytes += src.len();
        n += 1;
        let mut j = TranspileJob::new(r.clone(), src);
        j.facts = idx.facts(r);
        j.options = TranspileOptions {
            module: if fmt == "cjs" {
                ModuleFormat::CommonJs
            } else {
                ModuleFormat::Esm
            },
            target: a.get(4).cloned().unwrap_or("es2021".into()),
            source_map: true,
            output_path: Some(format!("dist/{}", output_path(r).unwrap())),
            ..Default::default()
        };
        let s = std::time::Instant::now();
        let res = t.transpile(&j);
        el += s.elapsed();
        match res {
            Ok(o) => {
                let p = format!("{out}/{}", output_path(r).unwrap());
                std::fs::create_dir_all(std::path::Path::new(&p).parent().unwrap()).unwrap();
                std::fs::write(&p, o.code).unwrap();
                std::fs::write(p + ".map", o.map.unwrap()).unwrap();
            }
            Err(e) => {
                bad += 1;
                for d in e {
                    println!("{d}")
                }
            }
        }
    }
    println!(
        "{n} files {bad} failed {bytes} bytes {:?} {:.1} MB/s",
        el,
        bytes as f64 / el.as_secs_f64() / 1e6
    );
}

//! The page that the figures are kept on.

use std::path::{Path, PathBuf};

use crate::Failure;

const BEGIN: &str = "<!-- figures: written by `russet-bench --write` -->";
const END: &str = "<!-- end of the figures -->";

/// Replaces the figures on the page, and returns where it is.
pub(crate) fn write(figures: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let page = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    std::fs::write(&path, replaced(&page, figures)?)?;
    Ok(path)
}

fn replaced(page: &str, figures: &str) -> Result<String, Failure> {
    let missing = || format!("the page has no place for the figures: it needs the lines {BEGIN} and {END}");
    let (before, rest) = page.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_replace_figures_and_nothing_else() {
        let page = format!("# Title\n\n{BEGIN}\nold\n{END}\n\ntext\n");
        let once = replaced(&page, "new\n").unwrap();
        assert_eq!(once, format!("# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\ntext\n"));
        assert_eq!(replaced(&once, "new").unwrap(), once);
    }

    #[test]
    fn a_page_without_a_place_is_left_alone() {
        assert!(replaced("# Title\n", "new").is_err());
        assert!(replaced(&format!("{END}\n{BEGIN}\n"), "new").is_err());
    }

    #[test]
    fn the_page_of_this_crate_has_a_place() {
        let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
        assert!(replaced(&page, "new").unwrap().contains("new"));
    }
}

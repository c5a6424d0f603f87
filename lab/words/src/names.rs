//! Wording of hints: nearest names, and lists of names.

/// Most names that a hint lists; of more only [`SOME`], so that never just a few are left out.
const MOST: usize = 40;
/// How many names a hint lists if there are more than [`MOST`].
const SOME: usize = 20;
/// Longest word that is compared, in bytes: the cost is the product of both lengths.
const LONGEST: usize = 128;

/// The known word that was probably meant, if any.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_lowercase();
    known
        .into_iter()
        .filter(|k| k.len() <= LONGEST)
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        .filter(|(d, k)| {
            *d <= (word.chars().count().max(k.chars().count()) / 3).max(1) && *d < k.chars().count()
        })
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Lists words: "`a`, `b` and `c`".
pub fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = words.into_iter().collect();
    let shown = if all.len() > MOST { SOME } else { all.len() };
    let mut quoted: Vec<String> = all[..shown].iter().map(|w| format!("`{w}`")).collect();
    if all.len() > shown {
        quoted.push(format!("{} more", all.len() - shown));
    }
    match quoted.pop() {
        None => String::new(),
        Some(last) if quoted.is_empty() => last,
        Some(last) => format!("{} and {last}", quoted.join(", ")),
    }
}

/// A hint for a name of some kind that does not exist.
pub fn known<'a>(kind: &str, word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = known.into_iter().collect();
    if let Some(near) = nearest(word, all.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    match all.len() {
        0 => format!("the topology has no {kind}s"),
        1 => format!("the only {kind} is {}", list(all)),
        _ => format!("the {kind}s are {}", list(all)),
    }
}

//! Bytes that lie in place as long as they are short.
//! They never change, and cost no allocation and no second cache miss up to `N` of them.
//! Read `tree.rs` next, where the levels are kept like this.

use std::borrow::Borrow;
use std::cmp::Ordering;

/// Up to `N` bytes in place, more elsewhere. `N` is at most 255; 22 and 46 waste nothing.
pub(super) enum InlineBytes<const N: usize> {
    Short { len: u8, bytes: [u8; N] },
    Long(Box<[u8]>),
}

impl<const N: usize> InlineBytes<N> {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut bytes = [0; N];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(front), Ok(len)) => {
                front.copy_from_slice(text);
                Self::Short { len, bytes }
            }
            _ => Self::Long(text.into()),
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Long(text) => text,
        }
    }
}

impl<const N: usize> Borrow<[u8]> for InlineBytes<N> {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<const N: usize> PartialEq for InlineBytes<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> Eq for InlineBytes<N> {}

impl<const N: usize> PartialOrd for InlineBytes<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for InlineBytes<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::InlineBytes;

    #[test]
    fn short_and_long_ones_read_and_sort_alike() {
        assert_eq!((size_of::<InlineBytes<22>>(), size_of::<InlineBytes<46>>()), (24, 48));
        let texts: Vec<Vec<u8>> = [0, 1, 21, 22, 23, 255, 256, 300].map(|len| vec![b'x'; len]).into();
        let kept: Vec<InlineBytes<22>> = texts.iter().map(|text| InlineBytes::of(text)).collect();
        for (kept, text) in kept.iter().zip(&texts) {
            assert_eq!(kept.as_bytes(), text);
        }
        assert!(kept.is_sorted());
        assert!(kept[5] > InlineBytes::of(b"w") && kept[2] < InlineBytes::of(b"y"));
        assert!(matches!(InlineBytes::<300>::of(&texts[7]), InlineBytes::Long(_)));
    }
}

#include "textstat.h"

static int is_space(unsigned char byte) {
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

textstat_counts textstat_count(const unsigned char *text, size_t length) {
    textstat_counts counts = {.bytes = length};
    int in_word = 0;
    for (size_t i = 0; i < length; i++) {
        counts.lines += text[i] == '\n';
        /* Every byte but the continuation bytes 10xxxxxx begins a code point. */
        counts.code_points += (text[i] & 0xC0) != 0x80;
        int space = is_space(text[i]);
        counts.words += !space && !in_word;
        in_word = !space;
    }
    return counts;
}

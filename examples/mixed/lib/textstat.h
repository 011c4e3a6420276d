/* Counts what is in a text, and names it by its CRC-32. */
#ifndef TEXTSTAT_H
#define TEXTSTAT_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t bytes;
    size_t lines;       /* ends of line */
    size_t words;       /* runs of bytes that are not white space */
    size_t code_points; /* of UTF-8; a stray byte counts as one */
} textstat_counts;

/* Counts a whole text. */
textstat_counts textstat_count(const unsigned char *text, size_t length);

/* The CRC-32 of IEEE 802.3, as zip and PNG use it. */
uint32_t textstat_crc32(const unsigned char *text, size_t length);

#endif

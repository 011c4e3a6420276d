/* textstat FILE...: one line of JSON for each file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "textstat.h"

/* Reads a whole file; the caller frees it. */
static unsigned char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    unsigned char *text = NULL;
    size_t capacity = 0;
    *length = 0;
    for (;;) {
        if (*length == capacity) {
            capacity = capacity ? 2 * capacity : 4096;
            unsigned char *larger = realloc(text, capacity);
            if (!larger) break;
            text = larger;
        }
        size_t got = fread(text + *length, 1, capacity - *length, file);
        *length += got;
        if (got == 0) {
            if (ferror(file)) break;
            fclose(file);
            return text;
        }
    }
    free(text);
    fclose(file);
    return NULL;
}

static void print_string(const char *text) {
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        putchar(*text);
    }
    putchar('"');
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: textstat FILE...\n");
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        size_t length;
        unsigned char *text = read_file(argv[i], &length);
        if (!text) {
            fprintf(stderr, "textstat: %s: %s\n", argv[i], strerror(errno));
            return 1;
        }
        textstat_counts counts = textstat_count(text, length);
        printf("{\"file\":");
        print_string(argv[i]);
        printf(",\"bytes\":%zu,\"lines\":%zu,\"words\":%zu,\"codePoints\":%zu,\"crc32\":\"%08x\"}\n",
               counts.bytes, counts.lines, counts.words, counts.code_points,
               textstat_crc32(text, length));
        free(text);
    }
    return 0;
}

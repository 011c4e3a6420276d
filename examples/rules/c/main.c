#include <stdio.h>

#include "c/fib.h"

int main(void) {
    printf("%u\n", fib(20));
    return 0;
}

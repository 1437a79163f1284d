/* A run-time compiler that compiles nothing, for tests of what is done with its images: it takes every program, and its image is the
 * options' text. A program that links to it names it in INVAR_NVRTC. */
#ifndef FAKE_NVRTC_H
#define FAKE_NVRTC_H

typedef struct fake_nvrtc_state {
    int compiled;      /* programs */
    int programs;      /* created, and not destroyed */
    int result;        /* of the next compilation */
    char options[1024]; /* of the last one, with a space between them */
} fake_nvrtc_state;

__attribute__((visibility("default"))) extern fake_nvrtc_state fake_nvrtc;

#endif

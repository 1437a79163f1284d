/* Text of other files in the library: the assembler reads it, so no generated source is needed. It searches the folders that
 * the including file's -Wa,-I options name. */
#ifndef INVAR_CORE_EMBED_H
#define INVAR_CORE_EMBED_H

#ifdef __APPLE__
#define INVAR_EMBED_SECTION ".section __TEXT,__const\n"
#define INVAR_EMBED_PREFIX "_"
#define INVAR_EMBED_END ".text\n"
#else
#define INVAR_EMBED_SECTION ".section .rodata\n"
#define INVAR_EMBED_PREFIX ""
#define INVAR_EMBED_END ".previous\n"
#endif

/* Defines `symbol` as the file's bytes with a NUL behind them. */
#define INVAR_EMBED(symbol, file)                                                                                \
    extern const char symbol[];                                                                                  \
    __asm__(INVAR_EMBED_SECTION INVAR_EMBED_PREFIX #symbol ":\n.incbin \"" file "\"\n.byte 0\n" INVAR_EMBED_END)

#endif

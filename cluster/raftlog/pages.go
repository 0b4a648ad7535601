package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"coffer/damage"
)

// bbolt checks only the two meta pages, and takes the older one without a word when the newer does not match its
// checksum, which forgets the last write. The other pages it walks at its start, in a goroutine whose panic nobody
// can recover. So a file is read here first: its meta pages have to be whole, and every page that the newest reaches
// has to be laid out exactly as bbolt lays pages out (its internal/common: Page, Meta, WriteInodeToPage), without
// gaps and referred to once. Keys and values are left to bbolt and to the entries' own checksums.
const (
	metaSize    = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2

	pageHead    = 16
	elementSize = 16
	branchPage  = 0x01
	leafPage    = 0x02
	bucketFlag  = 0x01
	bucketHead  = 16 // root page and sequence of a bucket, before its page if it is inline
)

// native is the byte order of bbolt's files.
var native = binary.NativeEndian

// pageWalk is one reading of a file's pages.
type pageWalk struct {
	file io.ReaderAt
	size uint64 // of a page
	end  uint64 // the first page id that was never used
	seen map[uint64]bool
}

// checkPages reads the bbolt file at path, which nobody writes meanwhile, and panics with [damage.Found] if it is not
// as it was written.
func checkPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &pageWalk{file: f, seen: map[uint64]bool{}}
	root := w.meta()
	w.page(root, true)
	return nil
}

func broken(format string, args ...any) {
	panic(damage.Found("the Raft log's file: " + fmt.Sprintf(format, args...)))
}

// read reads n bytes at offset.
func (w *pageWalk) read(offset, n uint64) []byte {
	b := make([]byte, n)
	if _, err := w.file.ReadAt(b, int64(offset)); errors.Is(err, io.EOF) {
		broken("it ends before byte %d", offset+n)
	} else if err != nil {
		broken("%v", err)
	}
	return b
}

// meta reads both meta pages, and returns the root page of the newer.
func (w *pageWalk) meta() (root uint64) {
	w.size = uint64(native.Uint32(w.oneMeta(0)[8:]))
	older, newer := w.oneMeta(0), w.oneMeta(w.size)
	if transaction(older) > transaction(newer) {
		older, newer = newer, older
	}
	if transaction(older)+1 != transaction(newer) {
		broken("its meta pages are of transactions %d and %d", transaction(older), transaction(newer))
	}
	w.end = native.Uint64(newer[40:])
	return native.Uint64(newer[16:])
}

func transaction(meta []byte) uint64 { return native.Uint64(meta[48:]) }

// oneMeta reads the meta page at offset. It fits into one sector, so no crash tears it.
func (w *pageWalk) oneMeta(offset uint64) []byte {
	m := w.read(offset+pageHead, metaSize)
	sum := fnv.New64a()
	_, _ = sum.Write(m[:metaSize-8])
	if native.Uint32(m) != metaMagic || native.Uint32(m[4:]) != metaVersion || native.Uint64(m[56:]) != sum.Sum64() {
		broken("the meta page at byte %d does not match its checksum", offset)
	}
	return m
}

// page checks a page and all below it. buckets says that it is of the tree whose values are buckets.
func (w *pageWalk) page(id uint64, buckets bool) {
	if id < 2 || id >= w.end {
		broken("a reference to page %d of %d", id, w.end)
	}
	head := w.read(id*w.size, pageHead)
	if native.Uint64(head) != id {
		broken("page %d says that it is page %d", id, native.Uint64(head))
	}
	pages := uint64(native.Uint32(head[12:])) + 1
	if id+pages > w.end {
		broken("page %d goes on behind the last", id)
	}
	for p := id; p < id+pages; p++ {
		if w.seen[p] {
			broken("page %d is referred to twice", p)
		}
		w.seen[p] = true
	}
	if native.Uint16(head[10:]) == 0 { // an empty bucket is inline
		broken("page %d is empty", id)
	}
	if end := w.content(id*w.size, pages*w.size, head, buckets); (end+w.size-1)/w.size != pages {
		broken("page %d has %d bytes in %d pages", id, end, pages)
	}
}

// content checks what follows the head of a page at offset, and what that refers to. It returns where it ends in the
// page.
func (w *pageWalk) content(offset, limit uint64, head []byte, buckets bool) (end uint64) {
	flags, count := native.Uint16(head[8:]), uint64(native.Uint16(head[10:]))
	if flags != branchPage && flags != leafPage {
		broken("the page at byte %d is of type %x", offset, flags)
	}
	end = pageHead + count*elementSize // keys and values follow the elements
	if end > limit {
		broken("the page at byte %d has %d elements", offset, count)
	}
	elements := w.read(offset+pageHead, count*elementSize)
	for i := range count {
		e, at := elements[i*elementSize:][:elementSize], pageHead+i*elementSize
		flag, pos := native.Uint32(e), native.Uint32(e[4:])
		key, value := uint64(native.Uint32(e[8:])), uint64(native.Uint32(e[12:]))
		if flags == branchPage {
			flag, pos, key, value = 0, native.Uint32(e), uint64(native.Uint32(e[4:])), 0
		}
		wantFlag := uint32(0)
		if buckets && flags == leafPage {
			wantFlag = bucketFlag
		}
		if at+uint64(pos) != end || flag != wantFlag || end+key+value > limit {
			broken("element %d of the page at byte %d is out of place", i, offset)
		}
		switch {
		case flags == branchPage:
			w.page(native.Uint64(e[8:]), buckets)
		case buckets:
			w.bucket(offset+end+key, value)
		}
		end += key + value
	}
	return end
}

// bucket checks a bucket, whose value of n bytes is at offset: a reference to its page, or a small page itself.
func (w *pageWalk) bucket(offset, n uint64) {
	if n < bucketHead {
		broken("the bucket at byte %d has %d bytes", offset, n)
	}
	root := native.Uint64(w.read(offset, bucketHead))
	switch {
	case root != 0 && n == bucketHead:
		w.page(root, false)
	case root == 0 && n >= bucketHead+pageHead:
		head := w.read(offset+bucketHead, pageHead)
		end := w.content(offset+bucketHead, n-bucketHead, head, false)
		if native.Uint16(head[8:]) != leafPage || end != n-bucketHead {
			broken("the bucket at byte %d is out of place", offset)
		}
	default:
		broken("the bucket at byte %d has %d bytes", offset, n)
	}
}

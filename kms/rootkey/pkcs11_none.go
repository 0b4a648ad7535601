//go:build !pkcs11

package rootkey

import "errors"

func openPKCS11(string) (Provider, error) {
	return nil, errors.New("the root key is in an HSM (pkcs11:), which this binary can't reach: build it with " +
		"CGO_ENABLED=1 go build -tags pkcs11 ./cmd/coffer")
}
